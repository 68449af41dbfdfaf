"""Cases of a protocol from a user's files: clips, labels, transcripts, ready features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serve_app.emotions import NINE, canonical
from serve_app.errors import InvalidRequestError
from serve_app.evaluation.annotations import (
    SENTENCE_COLUMNS,
    Annotation,
    read_labels,
    read_texts,
)
from serve_app.evaluation.cases import Case
from serve_app.evaluation.protocols import Protocol
from serve_app.types import Parity

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".wav")
DFEW_DIGITS = 5  # of its clips' names, which its tables write as plain numbers


@dataclass(frozen=True, slots=True)
class Files:
    """Where a data set lies."""

    videos: Path
    labels: Path
    transcripts: Path | None = None
    features: Path | None = None


def own_labels(protocol: Protocol, labels: Sequence[str] | None, path: Path) -> Protocol:
    """`custom` with the caller's labels; without any the nine, or the file's own where it has others."""
    if labels is None:
        found = dict.fromkeys(a.label for a in read_labels(path, None))
        labels = NINE if found.keys() <= set(NINE) else tuple(found)
    names = tuple(dict.fromkeys(canonical(label) for label in labels))
    if len(names) < len(labels) or len(names) < 2:
        raise InvalidRequestError(f"labels are {', '.join(labels)}; at least two different ones")
    return replace(protocol, asked=names, scored=names)


def make_cases(
    protocol: Protocol, files: Files, parity: Parity, with_probabilities: bool
) -> list[Case]:
    """One case for each labelled clip. A clip that is not there is left for its request to fail on.

    Raises:
        InvalidRequestError: a file cannot be read or does not fit, or no clip at all is there.
    """
    annotations = read_labels(files.labels, protocol.scored)
    sentences = _sentences(protocol, files)
    clips = {a.name: find_clip(files.videos, a.name) for a in annotations}
    if not any(clip.exists() for clip in clips.values()):
        raise InvalidRequestError(
            f"--videos {files.videos} holds none of the {len(clips)} clips of {files.labels}: "
            f"no {next(iter(clips.values())).name}"
        )
    return [
        Case(
            id=a.name,
            clip=clips[a.name],
            question=protocol.question(_sentence(a, sentences, files)),
            truth=a.label,
            features=_features(protocol, files, a.name),
            fields=protocol.fields(parity),
            labels=protocol.scored if with_probabilities else (),
        )
        for a in annotations
    ]


def find_clip(folder: Path, name: str) -> Path:
    """The file of this name, with or without its suffix; DFEW's numbers also with their zeros."""
    names = [name, name.zfill(DFEW_DIGITS)] if name.isdecimal() else [name]
    candidates = [folder / f"{each}{suffix}" for each in names for suffix in ("", *SUFFIXES)]
    exact = folder / (name if Path(name).suffix.lower() in SUFFIXES else f"{name}{SUFFIXES[0]}")
    return next((path for path in candidates if path.is_file()), exact)


def _sentences(protocol: Protocol, files: Files) -> Mapping[str, str] | None:
    if files.transcripts is None:
        return None
    return read_texts(files.transcripts, (protocol.sentence_column, *SENTENCE_COLUMNS))


def _sentence(
    annotation: Annotation, sentences: Mapping[str, str] | None, files: Files
) -> str | None:
    if sentences is None:
        return annotation.sentence
    if annotation.name not in sentences:
        raise InvalidRequestError(f"{files.transcripts} has no transcript of {annotation.name!r}")
    return sentences[annotation.name]


def _features(protocol: Protocol, files: Files, name: str) -> tuple[Path, ...]:
    if files.features is None:
        return ()
    if not protocol.feature_folders:
        raise InvalidRequestError(f"--features is not for {protocol.name}: it has no such files")
    stem = name.removesuffix(Path(name).suffix) if Path(name).suffix in SUFFIXES else name
    return tuple(files.features / folder / f"{stem}.npy" for folder in protocol.feature_folders)
