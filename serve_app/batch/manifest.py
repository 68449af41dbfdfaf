"""Reads the input of a batch (clips, a table or OpenAI's batch file) as rows, always in the same order."""

import glob
import hashlib
import io
import json
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from serve_app.batch.readers import (
    COLUMNS,
    OPENAI_KEYS,
    Line,
    is_openai,
    read_csv,
    read_jsonl,
    read_parquet,
)
from serve_app.batch.rows import Row
from serve_app.batch.storage import is_uri, locate
from serve_app.errors import InvalidRequestError

Kind = Literal["clips", "csv", "jsonl", "parquet", "openai"]

KIND_OF_SUFFIX: dict[str, Kind] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi")
OTHER_SUFFIXES = (".m4a", ".wav", ".mp3", ".png", ".jpg", ".jpeg", ".webp", ".npz")
CLIP_SUFFIXES = frozenset((*VIDEO_SUFFIXES, *OTHER_SUFFIXES))
WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The input of a batch. It can be read repeatedly, also by another process on this machine."""

    path: str  # a path or a URI
    kind: Kind

    def rows(self) -> Iterator[Row]:
        """Reads the rows one at a time.

        Raises:
            InvalidRequestError: the input cannot be read, or a column is unknown or missing.
        """
        for number, line in enumerate(self._lines()):
            fields = dict(line.fields)
            name = fields.pop("custom_id" if self.kind == "openai" else "id", None)
            if "video" in fields and not line.problem:
                fields["video"] = self._resolve(fields["video"])
            yield Row(
                number,
                str(number) if name is None else str(name),
                line.place,
                fields,
                line.problem and f"{line.place}: {line.problem}",
                self.kind == "openai",
            )

    def _lines(self) -> Iterator[Line]:
        if self.kind == "clips":
            yield from _clips(self.path)
            return
        with _opened(self.path) as file:
            if self.kind == "parquet":
                yield from read_parquet(file, self.path)
            elif self.kind == "csv":
                yield from read_csv(io.BufferedReader(file), self.path)
            else:
                columns = OPENAI_KEYS if self.kind == "openai" else COLUMNS
                yield from read_jsonl(io.BufferedReader(file), columns)

    def _resolve(self, video: Any) -> Any:
        """Resolves a relative path against the manifest's folder."""
        if not isinstance(video, str) or is_uri(video) or video.startswith("/"):
            return video
        if is_uri(self.path):
            return f"{self.path.rsplit('/', 1)[0]}/{video}"
        return os.path.join(os.path.dirname(os.path.abspath(self.path)), video)


@dataclass(frozen=True, slots=True)
class Overview:
    """Size and hash of a whole manifest."""

    num_rows: int
    sha256: str


def open_manifest(path: str) -> Manifest:
    """Finds out what kind of input lies at `path`.

    Raises:
        InvalidRequestError: it does not exist, or is of no known kind.
    """
    from pyarrow import fs

    if WILD & set(path):
        return Manifest(path, "clips")
    filesystem, inside = locate(path)
    kind_of_file = filesystem.get_file_info(inside).type
    if kind_of_file == fs.FileType.NotFound:
        raise InvalidRequestError(f"--input {path} does not exist")
    if kind_of_file == fs.FileType.Directory:
        return Manifest(path, "clips")
    kind = KIND_OF_SUFFIX.get(PurePosixPath(inside).suffix.lower())
    if kind is None:
        raise InvalidRequestError(
            f"--input {path}: expected a folder or a glob of clips, or a file that ends in "
            f"{', '.join(KIND_OF_SUFFIX)}"
        )
    if kind == "jsonl":
        with _opened(path) as file:
            kind = "openai" if is_openai(io.BufferedReader(file)) else kind
    return Manifest(path, kind)


def survey(manifest: Manifest) -> Overview:
    """Reads the manifest once. Needs 8 bytes of memory for each row.

    Raises:
        InvalidRequestError: it is empty, cannot be read, or two rows have the same id.
    """
    digest, ids = hashlib.sha256(), array("Q")
    for row in manifest.rows():
        ids.append(_hash_of(row.id))
        seen = [row.id, dict(row.fields), row.problem]
        digest.update(json.dumps(seen, sort_keys=True, default=str).encode())
    if not ids:
        raise InvalidRequestError(f"--input {manifest.path} holds no rows")
    if len(np.unique(np.frombuffer(ids, np.uint64))) < len(ids):
        _name_duplicate(manifest, ids)
    return Overview(len(ids), digest.hexdigest())


def _hash_of(name: str) -> int:
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest)


def _name_duplicate(manifest: Manifest, ids: "array[int]") -> None:
    """Raises an error that names two rows of the same id, if hashes did not merely collide."""
    hashes, counts = np.unique(np.frombuffer(ids, np.uint64), return_counts=True)
    suspects = set(hashes[counts > 1].tolist())
    places: dict[str, str] = {}
    for row in manifest.rows():
        if _hash_of(row.id) not in suspects:
            continue
        if row.id in places:
            raise InvalidRequestError(
                f"{manifest.path}: {places[row.id]} and {row.place} have the same id {row.id!r}"
            )
        places[row.id] = row.place


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Opens a seekable binary file."""
    filesystem, inside = locate(path)
    try:
        with filesystem.open_input_file(inside) as file:
            yield file
    except OSError as error:
        raise InvalidRequestError(f"--input {path} cannot be read: {error}") from error


def _clips(path: str) -> Iterator[Line]:
    """The files that match a glob, or all clips below a folder, sorted by name."""
    base, names = _glob(path) if WILD & set(path) else _below(path)
    base = base if is_uri(base) else os.path.abspath(base)
    for name in names:
        yield Line(f"file {name}", {"id": name, "video": f"{base}/{name}"})


def _below(folder: str) -> tuple[str, list[str]]:
    paths = [path for path in _files(folder) if PurePosixPath(path).suffix.lower() in CLIP_SUFFIXES]
    return folder.rstrip("/"), sorted(paths)


def _glob(pattern: str) -> tuple[str, list[str]]:
    """The deepest folder without a wildcard, and the matching files relative to it (their ids)."""
    parts = pattern.split("/")
    first = next(place for place, part in enumerate(parts) if WILD & set(part))
    base, rest = "/".join(parts[:first]) or ("/" if pattern.startswith("/") else "."), parts[first:]
    if is_uri(pattern):
        return base, sorted(name for name in _files(base) if fnmatch(name, "/".join(rest)))
    found = glob.glob("/".join(rest), root_dir=base, recursive=True)
    return base, sorted(name for name in found if os.path.isfile(os.path.join(base, name)))


def _files(folder: str) -> list[str]:
    """Paths of all files below the folder, relative to it."""
    from pyarrow import fs

    filesystem, root = locate(folder)
    selector = fs.FileSelector(root, recursive=True)
    return [
        str(PurePosixPath(info.path).relative_to(root))
        for info in filesystem.get_file_info(selector)
        if info.type == fs.FileType.File
    ]
