"""A lane whose worker starts, is cancelled or is replaced, with real processes."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from media import hooks
from pebble import ProcessPool
from pebble.pool.process import WorkerManager

from serve_app.errors import DecoderUnavailableError
from serve_app.media import worker
from serve_app.media.context import worker_context
from serve_app.media.lane import START_TIMEOUT_S, WorkerOptions
from serve_app.media.pool import Lanes
from serve_app.settings import MediaSettings


@contextmanager
def one_lane(
    initializer: Callable[..., None], *initargs: Any, start_timeout_s: float = START_TIMEOUT_S
) -> Iterator[Lanes]:
    context = worker_context(worker.__name__)
    options = WorkerOptions(context, initializer, initargs, start_timeout_s=start_timeout_s)
    lanes = Lanes(1, options, MediaSettings())
    yield lanes
    lanes.close()


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


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
    with one_lane(hooks.start_if, marker) as lanes:
        with pytest.raises(DecoderUnavailableError):
            await lanes.run("decoding", 5.0, hooks.sleep, 0.0)
        marker.touch()
        await lanes.run("decoding", 5.0, hooks.sleep, 0.0)


async def test_a_worker_that_hangs_while_it_starts_is_replaced(tmp_path: Path) -> None:
    marker = tmp_path / "repaired"
    with one_lane(hooks.hang_unless, marker, start_timeout_s=1.5) as lanes:
        with pytest.raises(DecoderUnavailableError, match=r"not up after 1\.5 s, the limit"):
            await lanes.run("decoding", 5.0, hooks.sleep, 0.0)
        marker.touch()
        await lanes.run("decoding", 5.0, hooks.sleep, 0.0)


async def test_a_worker_that_ends_before_its_pool_has_a_task_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = ProcessPool._check_pool_status

    def check_late(pool: Any) -> None:
        check(pool)
        time.sleep(0.7)  # as if the thread that gives the task had to wait for a core

    with one_lane(hooks.fail_to_start) as lanes:
        monkeypatch.setattr(ProcessPool, "_check_pool_status", check_late)
        with pytest.raises(DecoderUnavailableError, match="could not begin"):
            await asyncio.wait_for(lanes.run("decoding", 5.0, hooks.sleep, 0.0), 20)
