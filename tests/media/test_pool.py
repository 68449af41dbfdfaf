"""The pool outlives whatever happens to its workers: real processes, really killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from lib.plain_clips import face_frames, voice
from media import hooks
from media.clips import plain_frames
from pebble import ProcessPool
from pebble.pool.process import WorkerManager

from serve_app.demo.movie import write_clip
from serve_app.errors import (
    ClipForbiddenError,
    ClipOverLimitError,
    DecodeCrashedError,
    DecoderUnavailableError,
    DecodeTimeoutError,
    InvalidRequestError,
    OverloadedError,
    UnsupportedClipError,
)
from serve_app.media import worker
from serve_app.media.context import worker_context
from serve_app.media.lane import WorkerOptions
from serve_app.media.pool import DecodePool, Lanes
from serve_app.settings import MIB, MediaSettings
from serve_app.types import ClipSource, DecodeOptions

FIRST = DecodeOptions()


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_clip(path, face_frames(0, 1.0), [voice(0, 1.0)])


@pytest.fixture
def pool(clip_path: Path) -> Iterator[DecodePool]:
    settings = MediaSettings(
        allowed_roots=(clip_path.parent,),
        decode_timeout_s=1.0,
        num_decode_workers=2,
        max_queued_clips=4,
        worker_memory_bytes=256 * MIB,
        clip_cache_bytes=0,  # every clip goes to a worker
        voice=False,
    )
    pool = DecodePool(settings, image_size=224)
    yield pool
    pool.close()


def contents(path: Path) -> ClipSource:
    return ClipSource(data=path.read_bytes())


async def run(pool: DecodePool, function: Callable[..., Any], *args: Any) -> Any:
    """Any task in place of a clip, under the same limits."""
    return await pool._decoders.run("decoding", 1.0, function, *args)


@contextmanager
def one_lane(initializer: Callable[[], None]) -> Iterator[Lanes]:
    options = WorkerOptions(worker_context(worker.__name__), initializer, ())
    lanes = Lanes(1, options, MediaSettings())
    yield lanes
    lanes.close()


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_path_and_the_bytes_give_the_same_clip(pool: DecodePool, clip_path: Path) -> None:
    by_path = await pool.decode(ClipSource(path=str(clip_path)), FIRST)
    by_bytes = await pool.decode(contents(clip_path), FIRST)
    assert by_path.sha256 == by_bytes.sha256
    assert by_path.frame is not None and by_path.frame.shape == (224, 224, 3)
    assert 0 < by_path.decode_ms < 1000


async def test_our_errors_arrive_as_they_were_raised(pool: DecodePool) -> None:
    with pytest.raises(ClipForbiddenError, match="/etc/passwd is in none of the folders"):
        await pool.decode(ClipSource(path="/etc/passwd"), FIRST)
    with pytest.raises(UnsupportedClipError):
        await pool.decode(ClipSource(data=b"hello"), FIRST)


async def test_a_bug_is_not_disguised_as_a_bad_clip(pool: DecodePool) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        await run(pool, hooks.fail)


async def test_voice_is_refused_where_it_is_not_offered(pool: DecodePool, clip_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="does not offer voice"):
        await pool.decode(ClipSource(path=str(clip_path)), DecodeOptions(voice=True))


@pytest.mark.parametrize("task", [hooks.sleep, hooks.spin])
async def test_a_task_over_its_time_is_killed(
    pool: DecodePool, clip_path: Path, task: Callable[..., Any]
) -> None:
    started = time.monotonic()
    with pytest.raises(DecodeTimeoutError, match=r"decoding was stopped at 1\.0 s, the limit"):
        await run(pool, task, 60.0)
    assert 1.0 <= time.monotonic() - started < 2.0
    assert (await pool.decode(ClipSource(path=str(clip_path)), FIRST)).frame is not None


async def test_waiting_does_not_count_as_decoding(pool: DecodePool) -> None:
    started = time.monotonic()
    await asyncio.gather(*(run(pool, hooks.sleep, 0.7) for _ in range(6)))  # three rounds of two
    assert time.monotonic() - started > 2.0


async def test_a_worker_that_dies_costs_its_own_clip_only(
    pool: DecodePool, clip_path: Path
) -> None:
    source = ClipSource(path=str(clip_path))
    results = await asyncio.gather(
        run(pool, hooks.kill_itself),
        *(pool.decode(source, FIRST) for _ in range(3)),
        return_exceptions=True,
    )
    assert isinstance(results[0], DecodeCrashedError)
    assert "SIGKILL" in results[0].message
    assert not any(isinstance(result, BaseException) for result in results[1:])


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
async def test_a_crash_names_its_signal(pool: DecodePool, number: signal.Signals) -> None:
    with pytest.raises(DecodeCrashedError, match=number.name):
        await run(pool, hooks.kill_itself, number)


async def test_workers_killed_while_idle_are_replaced_unnoticed(
    pool: DecodePool, clip_path: Path
) -> None:
    source = ClipSource(path=str(clip_path))
    for pause_s in (0.0, 0.3):  # before pebble has seen it, and after
        pids = {await run(pool, hooks.sleep, 0.0) for _ in range(4)}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(pause_s)
        for _ in range(4):
            assert (await pool.decode(source, FIRST)).frame is not None


async def test_memory_over_the_limit_is_refused_and_given_back(
    pool: DecodePool, clip_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(ClipOverLimitError, match="more than 256 MiB, the limit"):
            await run(pool, hooks.hoard)
    for _ in range(4):
        assert (await pool.decode(ClipSource(path=str(clip_path)), FIRST)).frame is not None


async def test_a_picture_over_the_memory_limit_is_refused(pool: DecodePool, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "wide.mp4", plain_frames(1, 4000, 4000))
    settings = MediaSettings(
        max_pixels=16_000_000, worker_memory_bytes=64 * MIB, voice=False, num_decode_workers=1
    )
    small = DecodePool(settings, image_size=224)
    with pytest.raises(ClipOverLimitError, match="more than 64 MiB, the limit"):
        await small.decode(contents(path), FIRST)
    small.close()


async def test_cancelling_kills_the_task_and_frees_the_worker(
    pool: DecodePool, clip_path: Path
) -> None:
    hanging = [asyncio.create_task(run(pool, hooks.sleep, 0.9)) for _ in range(2)]
    await asyncio.sleep(0.2)
    started = time.monotonic()
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    assert (await pool.decode(ClipSource(path=str(clip_path)), FIRST)).frame is not None
    assert time.monotonic() - started < 0.6


async def test_cancelling_one_clip_does_not_end_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = WorkerManager.maybe_stop_worker

    def stop_late(manager: WorkerManager, worker_id: int) -> Any:
        time.sleep(0.4)  # as if the thread that found the cancelled task had to wait for a core
        return stop(manager, worker_id)

    monkeypatch.setattr(WorkerManager, "maybe_stop_worker", stop_late)
    with one_lane(worker.ready) as lanes:
        await lanes.run("starting", 5.0, hooks.sleep, 0.0)
        first = asyncio.create_task(lanes.run("first", 5.0, hooks.sleep, 0.3))
        await asyncio.sleep(0.1)
        await cancel(first)
        await lanes.run("second", 1.0, hooks.sleep, 0.7)


async def test_the_caller_who_cancels_does_not_wait_for_the_new_worker() -> None:
    with one_lane(hooks.start_slowly) as lanes:
        hanging = asyncio.create_task(lanes.run("hanging", 5.0, hooks.sleep, 4.0))
        await asyncio.sleep(1.5)
        started = time.monotonic()
        await cancel(hanging)
        assert time.monotonic() - started < 0.1


async def test_cancelling_while_the_worker_starts_does_not_start_it_again() -> None:
    with one_lane(hooks.start_slowly) as lanes:
        started = time.monotonic()
        for _ in range(3):
            early = asyncio.create_task(lanes.run("early", 5.0, hooks.sleep, 0.5))
            await asyncio.sleep(0.05)
            await cancel(early)
        await lanes.run("last", 5.0, hooks.sleep, 0.0)
        assert time.monotonic() - started < 1.9


async def test_waiting_for_the_worker_does_not_count_as_decoding() -> None:
    with one_lane(hooks.start_slowly) as lanes:
        await lanes.run("decoding", 0.5, hooks.sleep, 0.0)


async def test_cancelling_while_a_worker_is_replaced_loses_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []
    joined: list[Any] = []

    build, join = ProcessPool.__init__, ProcessPool.join

    def build_slowly(pool: Any, *args: Any) -> None:
        build(pool, *args)
        started.append(pool)
        time.sleep(0.1)  # long enough to be cancelled in the middle

    def join_and_tell(pool: Any) -> None:
        joined.append(pool)
        join(pool)

    monkeypatch.setattr(ProcessPool, "__init__", build_slowly)
    monkeypatch.setattr(ProcessPool, "join", join_and_tell)
    with one_lane(worker.ready) as lanes:
        for num_pools in (1, 2, 3):
            await lanes.run("starting", 5.0, hooks.sleep, 0.0)
            dying = asyncio.create_task(lanes.run("dying", 5.0, hooks.kill_itself))
            while len(started) == num_pools:
                await asyncio.sleep(0.01)
            await cancel(dying)
        await lanes.run("last", 5.0, hooks.sleep, 0.0)
    assert sorted(map(id, joined)) == sorted(map(id, started))


async def test_a_worker_that_does_not_start_is_not_the_fault_of_the_clip() -> None:
    with one_lane(hooks.fail_to_start) as lanes:
        for _ in range(2):
            with pytest.raises(DecoderUnavailableError, match="decoding could not begin"):
                await lanes.run("decoding", 5.0, hooks.sleep, 0.0)


async def test_a_worker_that_starts_again_is_used_again(tmp_path: Path) -> None:
    marker = tmp_path / "repaired"
    options = WorkerOptions(worker_context(worker.__name__), hooks.start_if, (marker,))
    lanes = Lanes(1, options, MediaSettings())
    with pytest.raises(DecoderUnavailableError):
        await lanes.run("decoding", 5.0, hooks.sleep, 0.0)
    marker.touch()
    await lanes.run("decoding", 5.0, hooks.sleep, 0.0)
    lanes.close()


async def test_a_timeout_of_the_task_itself_is_not_taken_for_the_limit(pool: DecodePool) -> None:
    pid = await run(pool, hooks.sleep, 0.0)
    with pytest.raises(TimeoutError, match="the task's own"):
        await run(pool, hooks.time_out)
    assert pid in {await run(pool, hooks.sleep, 0.0) for _ in range(2)}


async def test_cancelling_while_waiting_takes_no_worker(pool: DecodePool) -> None:
    busy = [asyncio.create_task(run(pool, hooks.sleep, 0.3)) for _ in range(2)]
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(run(pool, hooks.sleep, 0.0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(*busy)
    assert len({await run(pool, hooks.sleep, 0.0) for _ in range(4)}) == 2


async def test_a_full_queue_turns_clips_away(pool: DecodePool) -> None:
    tasks = [asyncio.create_task(run(pool, hooks.sleep, 0.2)) for _ in range(6)]
    await asyncio.sleep(0.05)  # two run, four wait
    with pytest.raises(OverloadedError, match="4 clips wait to be decoded; the limit is 4"):
        await run(pool, hooks.sleep, 0.0)
    await asyncio.gather(*tasks)
    await run(pool, hooks.sleep, 0.0)


async def test_a_worker_is_replaced_after_its_share_of_clips(clip_path: Path) -> None:
    pool = DecodePool(
        MediaSettings(num_decode_workers=1, max_clips_per_worker=2, voice=False), image_size=224
    )
    pids = [await run(pool, hooks.sleep, 0.0) for _ in range(6)]
    pool.close()
    assert len(set(pids)) == 3


async def test_memory_stays_flat(pool: DecodePool, clip_path: Path) -> None:
    pids = {await run(pool, hooks.sleep, 0.0) for _ in range(4)}
    source = contents(clip_path)
    processes = [psutil.Process(), *map(psutil.Process, pids)]
    rss: list[list[int]] = []
    for num_clips in (50, 200):  # the first ones fill caches
        for _ in range(num_clips):
            await pool.decode(source, FIRST)
        rss.append([process.memory_info().rss for process in processes])
    grown = [late - early for early, late in zip(*rss, strict=True)]
    assert max(grown) < 4 * MIB, grown


async def test_closing_leaves_no_worker_behind(pool: DecodePool) -> None:
    pids = {await run(pool, hooks.sleep, 0.0) for _ in range(4)}
    hanging = asyncio.create_task(run(pool, hooks.sleep, 60.0))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(pool.close)
    hanging.cancel()
    assert not any(map(psutil.pid_exists, pids))


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from serve_app.media.pool import DecodePool
from serve_app.settings import MediaSettings
from serve_app.types import ClipSource, DecodeOptions

async def main() -> None:
    pool = DecodePool(MediaSettings(voice=False, worker_memory_bytes=1 << 40), image_size=224)
    source = ClipSource(data=Path(sys.argv[1]).read_bytes())
    assert (await pool.decode(source, DecodeOptions())).frame is not None
    pool.close()

for limit, hard in ((resource.RLIMIT_AS, 8 << 30), (resource.RLIMIT_CPU, 6)):
    resource.setrlimit(limit, (hard, hard))
asyncio.run(main())
"""


def test_limits_the_server_was_started_under_are_kept(clip_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LIMITED, str(clip_path)]
    subprocess.run(command, check=True, env=environment)


SERVER = """
import asyncio, sys
from media import hooks
from media.clips import plain_frames
from serve_app.media.pool import DecodePool
from serve_app.settings import MediaSettings

async def main() -> None:
    pool = DecodePool(MediaSettings(num_decode_workers=2, voice=False), image_size=224)
    print(*{await pool._decoders.run("", 5.0, hooks.sleep, 0.0) for _ in range(4)}, flush=True)
    await pool._decoders.run("", 60.0, getattr(hooks, sys.argv[1]), 60.0)

raise SystemExit(asyncio.run(main()))  # on import, too: a worker must not import its `__main__`
"""


@pytest.mark.parametrize("task", ["sleep", "spin"])
def test_workers_end_when_the_server_is_killed(tmp_path: Path, task: str) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), task]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in server.stdout.readline().split()]
        family = [*psutil.Process(server.pid).children(recursive=True)]
        time.sleep(0.3)  # one of them is in the middle of its task
        server.kill()
        server.stdout.close()
    _, alive = psutil.wait_procs({*workers, *family}, timeout=5)
    assert len(workers) == 2 and not alive, alive
