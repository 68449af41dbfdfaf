"""Fetches a clip's bytes: from the request, or from a file inside the allowed folders."""

import errno
import os
import stat
from pathlib import Path

from serve_app.errors import (
    ClipForbiddenError,
    ClipNotFoundError,
    ClipTooLargeError,
    InvalidRequestError,
)
from serve_app.settings import MediaSettings
from serve_app.types import ClipSource


def read_source(source: ClipSource, settings: MediaSettings) -> bytes:
    if source.data is not None:
        _check_size(len(source.data), settings)
        return source.data
    assert source.path is not None
    return _read_file(resolve_path(source.path, settings), settings)


def resolve_path(path: str, settings: MediaSettings) -> Path:
    """The file that `path` really names, symlinks followed. Outside the roots nothing is told."""
    if not path or not path.isprintable():
        raise InvalidRequestError(f"{path!r} is not a path: it is empty or holds odd characters")
    resolved = Path(os.path.realpath(path))
    roots = [Path(os.path.realpath(root)) for root in settings.allowed_roots]
    if not any(resolved.is_relative_to(root) for root in roots):
        raise ClipForbiddenError(f"{path} is in none of the folders clips may be read from")
    return resolved


def _read_file(path: Path, settings: MediaSettings) -> bytes:
    with open(path, "rb", opener=_open) as file:
        _check_size(os.fstat(file.fileno()).st_size, settings)
        data = file.read(settings.max_clip_bytes + 1)  # it may have grown since
    _check_size(len(data), settings)
    return data


def _open(path: str, flags: int) -> int:
    # Neither waits for the other end of a pipe nor follows a link put there since it was resolved.
    flags |= os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ClipForbiddenError(f"{path} may not be read by the server") from error
        raise ClipNotFoundError(f"no file at {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ClipNotFoundError(f"{path} is not a regular file")
    return descriptor


def _check_size(num_bytes: int, settings: MediaSettings) -> None:
    if num_bytes > settings.max_clip_bytes:
        raise ClipTooLargeError(
            f"clip has {num_bytes} bytes; the limit is {settings.max_clip_bytes} bytes"
        )
