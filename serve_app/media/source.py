"""Reads a clip's bytes: from the request, or from a file inside the allowed folders."""

import errno
import os
import stat
from pathlib import Path

from serve_app.errors import (
    ClipError,
    ClipForbiddenError,
    ClipNotFoundError,
    ClipTooLargeError,
    InvalidRequestError,
    UndecodableClipError,
)
from serve_app.settings import MediaSettings
from serve_app.types import ClipSource

NO_FILE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENXIO,  # a socket, or a device that is not there
    errno.ENODEV,
    errno.ESTALE,  # deleted on the file server
)


def read_source(source: ClipSource, settings: MediaSettings) -> bytes:
    if source.data is not None:
        _check_size(len(source.data), settings)
        return source.data
    assert source.path is not None
    return _read_file(resolve_path(source.path, settings), settings)


def resolve_path(path: str, settings: MediaSettings) -> Path:
    """The file that `path` names, symlinks resolved. Outside the allowed roots nothing about it is told."""
    if not path or not path.isprintable():
        raise InvalidRequestError(f"{path!r} is not a path: it is empty or holds odd characters")
    resolved = Path(os.path.realpath(path))
    _check_inside(resolved, path, settings)
    return resolved


def _check_inside(resolved: Path, path: str | Path, settings: MediaSettings) -> None:
    roots = [Path(os.path.realpath(root)) for root in settings.allowed_roots]
    if not any(resolved.is_relative_to(root) for root in roots):
        raise ClipForbiddenError(f"{path} is in none of the folders clips may be read from")


def _read_file(path: Path, settings: MediaSettings) -> bytes:
    try:
        with open(path, "rb", opener=_open) as file:
            _check_opened(file.fileno(), path, settings)
            data = file.read(settings.max_clip_bytes + 1)  # the file may have grown since the check
    except OSError as error:
        raise _explain(error, path) from error
    if data is None:  # a kernel file without data, which a blocking read would wait for
        raise UndecodableClipError(f"{path} cannot be read: it holds nothing yet")
    _check_size(len(data), settings)
    return data


def _open(path: str, flags: int) -> int:
    # Do not wait for the other end of a pipe, nor follow a link that was put there after `resolve_path`.
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _check_opened(descriptor: int, path: Path, settings: MediaSettings) -> None:
    """Check the opened file itself: any folder of its path may have become a link since `resolve_path`."""
    _check_inside(Path(os.readlink(f"/proc/self/fd/{descriptor}")), path, settings)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ClipNotFoundError(f"{path} is not a regular file")
    _check_size(status.st_size, settings)


def _explain(error: OSError, path: Path) -> ClipError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return ClipForbiddenError(f"{path} may not be read by the server: {error.strerror}")
    if error.errno in NO_FILE:
        return ClipNotFoundError(f"no file at {path}: {error.strerror}")
    return UndecodableClipError(f"{path} cannot be read: {error.strerror}")


def _check_size(num_bytes: int, settings: MediaSettings) -> None:
    if num_bytes > settings.max_clip_bytes:
        raise ClipTooLargeError(
            f"clip has {num_bytes} bytes; the limit is {settings.max_clip_bytes} bytes"
        )
