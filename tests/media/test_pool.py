"""The pool survives whatever happens to its workers: real processes, really killed."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lib.plain_clips import face_frames, voice
from media import hooks
from media.clips import plain_frames

from serve_app.demo.movie import write_clip
from serve_app.errors import (
    ClipForbiddenError,
    ClipOverLimitError,
    DecodeCrashedError,
    DecodeTimeoutError,
    InvalidRequestError,
    OverloadedError,
    UnsupportedClipError,
)
from serve_app.media.pool import DecodePool
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
    """Run any task in place of decoding, under the same limits."""
    return await pool._decoders.run("decoding", 1.0, function, *args)


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
