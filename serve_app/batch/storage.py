"""Reads and writes files by path or URI through pyarrow's filesystems, on a disk or in an object store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from serve_app.errors import ConfigurationError, InvalidRequestError

TEMPORARY = ".tmp"


def check_installed() -> None:
    """Raises ConfigurationError if a package that only batches need is not installed."""
    missing = [name for name in ("pyarrow", "pandas") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} not installed: pip install 'emotion-llama-serve[batch]'"
        )


def is_uri(path: str) -> bool:
    return len(urlsplit(path).scheme) > 1 and "://" in path


def locate(path: str) -> tuple[Any, str]:
    """The filesystem of a path or URI, and the path inside it.

    Raises:
        InvalidRequestError: the URI's scheme is unknown, or its store cannot be reached.
    """
    import pyarrow
    from pyarrow import fs

    if not is_uri(path):
        return fs.LocalFileSystem(), os.path.abspath(path)
    try:
        filesystem, inside = fs.FileSystem.from_uri(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InvalidRequestError(f"{path} cannot be reached: {error}") from error
    return filesystem, inside


class Folder:
    """A folder whose files appear complete or not at all."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._filesystem, self._root = locate(path)

    def create(self) -> None:
        self._filesystem.create_dir(self._root, recursive=True)

    def names(self) -> list[str]:
        """Names of its complete files, sorted."""
        from pyarrow import fs

        selector = fs.FileSelector(self._root, allow_not_found=True)
        found = [
            info.base_name
            for info in self._filesystem.get_file_info(selector)
            if info.type == fs.FileType.File
        ]
        return sorted(name for name in found if not name.endswith(TEMPORARY))

    @contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """Opens a binary file."""
        with self._filesystem.open_input_file(self._inside(name)) as file:
            yield file

    def read(self, name: str) -> bytes:
        with self.reading(name) as file:
            data: bytes = file.read()
        return data

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """Opens a binary file. It is synced and gets its final name when the block ends without an error."""
        final = self._inside(name)
        temporary = final + TEMPORARY
        with self._filesystem.open_output_stream(temporary) as file:
            yield file
        self._sync(temporary)
        self._filesystem.move(temporary, final)
        self._sync(self._root)

    def remove(self, name: str) -> None:
        self._filesystem.delete_file(self._inside(name))

    def _inside(self, name: str) -> str:
        return str(PurePosixPath(self._root) / name)

    def _sync(self, path: str) -> None:
        """Syncs a local file or folder. An object store keeps a file durably once its stream is closed."""
        if self._filesystem.type_name != "local":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
