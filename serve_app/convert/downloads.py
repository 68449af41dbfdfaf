"""Opens the four downloads: reads every tensor's name, shape and type, but no tensor."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serve_app.checkpoint import TOKENIZER
from serve_app.convert.sources import Source, open_directory, open_file

DIMS_FILE = "dims.json"  # beside an EVA file that is not the published one: see config.py
FEATURE_EXTRACTOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the user's downloads are."""

    llama: Path  # folder
    eva: Path  # file
    hubert: Path  # folder
    checkpoint: Path  # file

    @property
    def dims(self) -> Path:
        return self.eva.parent / DIMS_FILE

    @property
    def feature_extractor(self) -> Path:
        return self.hubert / FEATURE_EXTRACTOR_FILE

    @property
    def tokenizer(self) -> Path:
        return self.llama / TOKENIZER


@dataclass(frozen=True, slots=True)
class Downloads:
    """The four opened downloads."""

    paths: Paths
    llama: Source
    eva: Source
    hubert: Source
    checkpoint: Source

    def by_kind(self) -> dict[str, Source]:
        return {
            "llama": self.llama,
            "eva": self.eva,
            "hubert": self.hubert,
            "checkpoint": self.checkpoint,
        }

    def files(self) -> Iterator[Path]:
        """All files that are read, including configs and tokenizer."""
        for source in self.by_kind().values():
            for file in source.files:
                yield file.path
        paths = self.paths
        beside = (paths.llama / "config.json", paths.hubert / "config.json", paths.tokenizer)
        for path in (*beside, paths.dims, paths.feature_extractor):
            if path.is_file():
                yield path

    def release(self) -> None:
        """Releases the memory of tensors that were read."""
        for source in self.by_kind().values():
            source.release()


def open_downloads(paths: Paths) -> Downloads:
    """Opens the downloads.

    Raises:
        CheckpointError: a file is missing, damaged or contains code.
    """
    return Downloads(
        paths,
        llama=open_directory(paths.llama),
        eva=open_file(paths.eva),
        hubert=open_directory(paths.hubert),
        checkpoint=open_file(paths.checkpoint),
    )
