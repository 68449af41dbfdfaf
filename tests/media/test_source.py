"""Which paths are read, and the errors for the others."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import (
    ClipForbiddenError,
    ClipNotFoundError,
    ClipTooLargeError,
    InvalidRequestError,
    ServeAppError,
    UndecodableClipError,
)
from serve_app.media import source as source_module
from serve_app.media.source import read_source
from serve_app.settings import MediaSettings
from serve_app.types import ClipSource


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "clip.mp4").write_bytes(b"content")
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    return folder


def read(path: Path | str, root: Path, max_clip_bytes: int = 100) -> bytes:
    settings = MediaSettings(allowed_roots=(root,), max_clip_bytes=max_clip_bytes)
    return read_source(ClipSource(path=str(path)), settings)


def test_a_file_inside_a_root_is_read(root: Path) -> None:
    assert read(root / "clip.mp4", root) == b"content"


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "link.mp4").symlink_to(root / "clip.mp4")
    assert read(root / "link.mp4", root) == b"content"


def test_a_root_may_itself_be_a_link(root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    assert read(root.parent / "alias" / "clip.mp4", root.parent / "alias") == b"content"


def test_ways_out_of_the_roots_are_forbidden(root: Path) -> None:
    (root / "link.mp4").symlink_to(root.parent / "secret.mp4")
    (root.parent / "clips2").mkdir()  # a sibling that starts with the root's name
    (root.parent / "clips2" / "clip.mp4").write_bytes(b"secret")
    for way_out in (
        "link.mp4",
        "../secret.mp4",
        "../clips2/clip.mp4",
        "/etc/passwd",
        "../none.mp4",
    ):
        with pytest.raises(ClipForbiddenError, match="none of the folders"):
            read(root / way_out, root)


def test_without_roots_every_path_is_forbidden(root: Path) -> None:
    with pytest.raises(ClipForbiddenError):
        read_source(ClipSource(path=str(root / "clip.mp4")), MediaSettings())


@pytest.mark.parametrize("name", ["none.mp4", "clip.mp4/x", "x" * 5000, "."])
def test_what_is_no_file_is_not_found(root: Path, name: str) -> None:
    with pytest.raises(ClipNotFoundError):
        read(root / name, root)


def test_a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe.mp4")
    with pytest.raises(ClipNotFoundError, match="not a regular file"):
        read(root / "pipe.mp4", root)


@pytest.mark.parametrize("path", ["", "a\0b", "a\nb", "\udcff"])
def test_what_is_no_path_is_an_invalid_request(root: Path, path: str) -> None:
    with pytest.raises(InvalidRequestError):
        read(path, root)


def test_an_unreadable_file_is_forbidden(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> int:  # the tests may run as root, whom no mode stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(ClipForbiddenError, match="may not be read"):
        read(root / "clip.mp4", root)


def test_too_many_bytes_are_counted_against_the_limit(root: Path) -> None:
    for source in (ClipSource(path=str(root / "clip.mp4")), ClipSource(data=b"content")):
        settings = MediaSettings(allowed_roots=(root,), max_clip_bytes=6)
        with pytest.raises(ClipTooLargeError, match="7 bytes; the limit is 6 bytes"):
            read_source(source, settings)


def test_a_file_that_reports_no_size_is_counted_while_it_is_read() -> None:
    with pytest.raises(ClipTooLargeError, match="the limit is 6 bytes"):
        read("/proc/self/status", Path("/proc"), max_clip_bytes=6)


def test_a_folder_that_becomes_a_link_is_no_way_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "secret.mp4").write_bytes(b"content")

    def open_late(*args: Any, **kwargs: Any) -> Any:
        (root / "sub").rename(root / "moved")
        (root / "sub").symlink_to(root.parent)
        return open(*args, **kwargs)

    monkeypatch.setattr(source_module, "open", open_late, raising=False)
    with pytest.raises(ClipForbiddenError, match=r"sub/secret\.mp4 is in none of the folders"):
        read(root / "sub" / "secret.mp4", root)


def test_a_file_that_cannot_be_read_says_why() -> None:
    with pytest.raises(UndecodableClipError, match=r"/mem cannot be read: Input/output error"):
        read("/proc/self/mem", Path("/proc"))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ETIMEDOUT, UndecodableClipError),  # a TimeoutError to Python
        (errno.ESTALE, ClipNotFoundError),
        (errno.EACCES, ClipForbiddenError),
    ],
)
def test_an_error_in_the_middle_of_a_file_is_the_clips(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[ServeAppError]
) -> None:
    class Unreadable(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(number, os.strerror(number))

    def unreadable(path: Path, mode: str, opener: Any) -> Unreadable:
        return Unreadable(path, mode, opener=opener)

    monkeypatch.setattr(source_module, "open", unreadable, raising=False)
    with pytest.raises(expected, match=rf"clip\.mp4.*{os.strerror(number)}"):
        read(root / "clip.mp4", root)


def test_a_file_with_nothing_to_read_yet_is_not_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Empty(io.FileIO):
        def read(self, size: int | None = -1, /) -> Any:
            return None  # what a buffered file makes of EAGAIN

    def empty(path: Path, mode: str, opener: Any) -> Empty:
        return Empty(path, mode, opener=opener)

    monkeypatch.setattr(source_module, "open", empty, raising=False)
    with pytest.raises(UndecodableClipError, match="holds nothing yet"):
        read(root / "clip.mp4", root)
