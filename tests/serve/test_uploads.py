"""Many uploads at once: each gets its own answer, and none of them leaves anything on a disk."""

import asyncio
import contextlib
import os
import resource
import secrets
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from serve.conftest import APP_NAME

from serve_app.settings import MIB

REASON = "[reason] Why does the person feel this way?"
NUM_UPLOADS = 64
# More than what Starlette's form parser by itself keeps in memory, so that it would make a file of each.
UPLOAD_BYTES = 2 * MIB
MARKER = f"upload-{secrets.token_hex(16)}-".encode()  # no file of an earlier run holds it
STAGES = ("Ingress", "Preprocessor", "Generator")


def uploads(clips: list[Path], run: str) -> list[bytes]:
    """Each the file of a clip, and in a box that players skip the marker and padding."""
    padded = []
    for number, clip in enumerate(clips):
        data, mark = clip.read_bytes(), MARKER + f"{run}-{number}".encode()
        box_bytes = UPLOAD_BYTES - len(data)
        box = struct.pack(">I4s", box_bytes, b"free") + mark.ljust(box_bytes - 8, b"\0")
        padded.append(data + box)
    return padded


async def post(client: httpx.AsyncClient, number: int, data: bytes) -> dict[str, Any]:
    """Every second one is a form, the others are bodies."""
    fields = {"question": f"{REASON} {number}", "temperature": "0", "details": "true"}
    if number % 2:
        response = await client.post("/process_video", data=fields, files={"file": data})
    else:
        media_type = {"Content-Type": "video/mp4"}
        response = await client.post(
            "/process_video", params=fields, content=data, headers=media_type
        )
    answer: dict[str, Any] = response.raise_for_status().json()
    return answer


async def test_64_parallel_uploads_give_the_serial_answers_and_leave_nothing_on_a_disk(
    server_url: str, fresh_clips: list[Path]
) -> None:
    clips = fresh_clips[:NUM_UPLOADS]
    limits = httpx.Limits(max_connections=NUM_UPLOADS)
    started = time.time()
    with no_large_file_can_be_written() as processes:
        async with httpx.AsyncClient(base_url=server_url, timeout=120, limits=limits) as client:
            # The parallel ones come first, and other bytes than the serial ones: no cache answers.
            posts = [post(client, *each) for each in enumerate(uploads(clips, "parallel"))]
            parallel = await asyncio.gather(*posts)
            serial = [await post(client, *each) for each in enumerate(uploads(clips, "serial"))]
        assert {p["details"]["usage"]["cached_tokens"] for p in parallel} == {0}
        assert [p["response"] for p in parallel] == [s["response"] for s in serial]
        assert [p["details"]["token_ids"] for p in parallel] == [
            s["details"]["token_ids"] for s in serial
        ]
        assert len({p["details"]["provenance"]["clip_sha256"] for p in parallel}) == NUM_UPLOADS
        assert len({s["response"] for s in serial}) >= 9
        found = [path for path in open_files(processes) if holds_marker(path)]
    found += [path for path in changed_files(Path("/"), started) if holds_marker(path)]
    assert found == []


def test_the_search_finds_what_lies_there(tmp_path: Path) -> None:
    started = time.time()
    copy = tmp_path / "upload.tmp"
    copy.write_bytes(bytes(3 * MIB) + MARKER + bytes(MIB))
    assert [path for path in changed_files(tmp_path, started) if holds_marker(path)] == [copy]
    with tempfile.TemporaryFile() as unnamed:
        unnamed.write(MARKER)
        unnamed.flush()
        (held,) = [p for p in open_files([psutil.Process()]) if holds_marker(p)]
    assert f"/proc/{os.getpid()}/fd/" in str(held)


@contextmanager
def no_large_file_can_be_written() -> Iterator[list[psutil.Process]]:
    """Of our replicas and of Serve's proxy, with all they start. The kernel refuses what would make a file
    as large as an upload, wherever and for however short a time; Ray's shared memory is mapped, not written.
    """
    family = psutil.Process().children(recursive=True)
    roots = [p for p in family if "ServeReplica:" in p.name() or "ProxyActor" in p.name()]
    names = {p.name().removeprefix("ray::").split(".")[0] for p in roots}
    processes = {each for root in roots for each in (root, *root.children(recursive=True))}
    limits = {process: process.rlimit(resource.RLIMIT_FSIZE) for process in processes}
    assert {"ProxyActor", *(f"ServeReplica:{APP_NAME}:{name}" for name in STAGES)} <= names, names
    try:
        for process, (_, hard) in limits.items():
            process.rlimit(resource.RLIMIT_FSIZE, (UPLOAD_BYTES - 1, hard))
        yield list(processes)
    finally:
        for process, before in limits.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(resource.RLIMIT_FSIZE, before)


def open_files(processes: list[psutil.Process]) -> Iterator[Path]:
    """Regular files that the processes hold open, those without a name among them. Not shared memory."""
    for process in processes:
        descriptors: list[Path] = []
        with contextlib.suppress(FileNotFoundError):  # it has ended since
            descriptors = list(Path(f"/proc/{process.pid}/fd").iterdir())
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                name, status = os.readlink(descriptor), descriptor.stat()
                is_memory = name.startswith(("/dev/shm/", "/memfd:"))
                if stat.S_ISREG(status.st_mode) and not is_memory:
                    yield descriptor


def changed_files(top: Path, since_s: float) -> Iterator[Path]:
    """Regular files changed since then below it, on the disk that this run's folder lies on."""
    disk = os.stat(tempfile.gettempdir()).st_dev
    for folder, folders, names in os.walk(top):
        folders[:] = [each for each in folders if is_on(disk, os.path.join(folder, each))]
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_ctime >= since_s - 1:
                    yield path


def is_on(disk: int, folder: str) -> bool:
    try:
        return os.lstat(folder).st_dev == disk
    except OSError:
        return False


def holds_marker(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        tail = b""
        while chunk := file.read(MIB):
            if MARKER in tail + chunk:
                return True
            tail = chunk[-len(MARKER) :]
    return False
