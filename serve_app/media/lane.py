"""One worker process in a pebble pool of its own, so that its death costs one clip.

A pebble pool is broken for good once a worker dies while idle. Its workers share one pipe, which a
killed worker may leave half written. And pebble handles a timeout or cancellation at its next tick,
when it may stop the worker during a later task. So a lane has one worker and runs one task at a time,
does not tell pebble about timeouts and cancellations, and replaces the pool whenever a task did not
simply return.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from serve_app.media import worker
from serve_app.media.context import WorkerContext

P = ParamSpec("P")
T = TypeVar("T")

# After these the worker is gone, or its memory may still be full.
FATAL = (BrokenProcessPool, ProcessExpired, MemoryError)

START_TIMEOUT_S = 120.0  # compiling for the voice may take 20 s, and longer on a busy machine
START_CHECK_S = 0.2


class OverTimeError(Exception):
    """The task ran over its time limit. (Not TimeoutError, which the task itself may raise.)"""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How the worker of a lane is started."""

    context: WorkerContext
    initializer: Callable[..., None]
    initargs: tuple[Any, ...]
    max_tasks: int = 0  # replace the worker after so many tasks; 0: never
    start_timeout_s: float = START_TIMEOUT_S


class Lane:
    """Runs one task at a time. After each task its owner calls `renew` if the lane is `spent`."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._replacing = threading.Lock()
        self._closed = False
        self._pool: ProcessPool | None = None
        self._start()

    async def run(
        self, timeout_s: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run one task. `timeout_s` does not include waiting for the worker to start.

        Raises what the function raises; OverTimeError; ProcessExpired: the worker died during the task;
        BrokenProcessPool: no worker started in time.
        """
        try:
            return await self._run(timeout_s, function, args, kwargs)
        except BrokenProcessPool:  # the worker died idle or did not start: the task has not begun
            await self.renew()
            return await self._run(timeout_s, function, args, kwargs)

    async def renew(self) -> None:
        """Replaces a spent worker. Returns when the new one is up or has failed to start in time.

        Cancelling this does not interrupt the replacement; a second call waits for it.
        """
        await asyncio.to_thread(self._replace)
        await self._start_problem()

    def close(self) -> None:
        """Kills the worker. Returns when it is gone."""
        with self._replacing:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()

    async def _run(self, timeout_s: float, function: Callable[..., T], args: Any, kwargs: Any) -> T:
        await self._worker_up()
        future = self._schedule(function, args, kwargs)
        self._num_tasks += 1
        self.spent = True  # until the worker is seen to have returned
        if not await _is_done(future, timeout_s):
            raise OverTimeError
        fatal = isinstance(future.exception(), FATAL)
        self.spent = fatal or self._num_tasks == self._options.max_tasks
        return future.result()

    async def _worker_up(self) -> None:
        """Wait until the worker is up. A task is sent only then: one in the pipe cannot be taken back."""
        if (problem := await self._start_problem()) is not None:
            self.spent = True
            raise BrokenProcessPool(f"the worker did not start: {problem}")

    async def _start_problem(self) -> str | None:
        """Why the worker did not start, or None once it is up. The time limit counts from its start."""
        while not await _is_done(self._up, START_CHECK_S):
            if time.monotonic() > self._up_by:
                return f"it is not up after {self._options.start_timeout_s:.1f} s, the limit"
            # On a busy machine pebble may notice the worker's death before it has sent the first task, whose
            # future then never completes.
            if self._pool is None or not self._pool.active:
                return "it ended at once"
        error = self._up.exception()
        return None if error is None else str(error)

    def _schedule(self, function: Callable[..., T], args: Any, kwargs: Any) -> Future[T]:
        try:
            if self._pool is None:
                raise RuntimeError("there is no worker")
            future: Future[T] = self._pool.schedule(function, args, kwargs)
        except RuntimeError as error:  # raised by the pool, whose worker died
            self.spent = True
            raise BrokenProcessPool(str(error)) from error
        return future

    def _replace(self) -> None:
        with self._replacing:
            if self._closed or not self.spent:
                return
            self._retire()
            try:
                self._start()
            except (OSError, RuntimeError) as error:  # no memory, descriptors or processes left
                raise BrokenProcessPool(f"no worker could be started: {error}") from error

    def _retire(self) -> None:
        old, self._pool = self._pool, None
        if old is not None:
            old.stop()
            # In a daemon thread, since the old pool may hang on a half-written pipe.
            threading.Thread(target=old.join, daemon=True).start()

    def _start(self) -> None:
        """Start a new pool. Returns at once, before the worker is up."""
        options = self._options
        pool = ProcessPool(1, 0, options.initializer, options.initargs, options.context)
        self._up: Future[None] = pool.schedule(worker.ready)
        self._up_by = time.monotonic() + options.start_timeout_s
        self._pool = pool
        self._num_tasks = 0
        self.spent = False


async def _is_done(future: Future[Any], timeout_s: float | None = None) -> bool:
    """Wait for the future, without cancelling it on a timeout or when the wait is cancelled."""
    waiter = asyncio.wrap_future(future)
    waiter.add_done_callback(
        asyncio.Future.exception
    )  # or asyncio logs that its exception was never retrieved
    await asyncio.wait([waiter], timeout=timeout_s)
    return future.done()
