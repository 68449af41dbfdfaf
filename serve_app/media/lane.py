"""One worker process behind a pebble pool of its own: whatever ends it costs one clip.

A pebble pool is broken for good once a worker dies while idle, and its workers share one pipe,
which a killed one may leave half written. Told of a timeout or a cancellation, it may by its next
tick stop the worker over a later task. So a lane has one worker, takes one task at a time, tells
pebble of neither, and gets a new pool whenever a task has not simply returned.
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

# After these the worker is gone, or what filled its memory may still be in it.
FATAL = (BrokenProcessPool, ProcessExpired, MemoryError)

START_TIMEOUT_S = 120.0  # compiling for the voice may take 20 s, and longer on a busy machine
START_CHECK_S = 0.2


class OverTimeError(Exception):
    """The task has run longer than it may. (A TimeoutError might be one of the task's own.)"""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How the worker of a lane is started."""

    context: WorkerContext
    initializer: Callable[..., None]
    initargs: tuple[Any, ...]
    max_tasks: int = 0  # it is replaced after so many; 0: never
    start_timeout_s: float = START_TIMEOUT_S


class Lane:
    """Takes one task at a time. After each, its owner renews it if it is `spent`."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._replacing = threading.Lock()
        self._closed = False
        self._pool: ProcessPool | None = None
        self._start()

    async def run(
        self, timeout_s: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Raises what the function does, OverTimeError, ProcessExpired if the worker died over it.

        BrokenProcessPool: no worker starts, or not in its time. The task's does not include waiting for it.
        """
        try:
            return await self._run(timeout_s, function, args, kwargs)
        except BrokenProcessPool:  # the worker died idle or did not start: the task has not begun
            await self.renew()
            return await self._run(timeout_s, function, args, kwargs)

    async def renew(self) -> None:
        """Replaces a spent worker; returns when the new one is up, or has failed to come up in time.

        The replacing itself is in one piece: when this is cancelled it ends all the same, and a
        second call waits for it.
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
        self.spent = True  # unless we are there when the worker has returned from it
        if not await _is_done(future, timeout_s):
            raise OverTimeError
        fatal = isinstance(future.exception(), FATAL)
        self.spent = fatal or self._num_tasks == self._options.max_tasks
        return future.result()

    async def _worker_up(self) -> None:
        """Only then is it given a task: one that is in its pipe cannot be taken back."""
        if (problem := await self._start_problem()) is not None:
            self.spent = True
            raise BrokenProcessPool(f"the worker did not start: {problem}")

    async def _start_problem(self) -> str | None:
        """What kept the worker from starting. Its time is counted from its start, not from here."""
        while not await _is_done(self._up, START_CHECK_S):
            if time.monotonic() > self._up_by:
                return f"it is not up after {self._options.start_timeout_s:.1f} s, the limit"
            # On a busy machine pebble may see it die before it has the first task, which it then forgets.
            if self._pool is None or not self._pool.active:
                return "it ended at once"
        error = self._up.exception()
        return None if error is None else str(error)

    def _schedule(self, function: Callable[..., T], args: Any, kwargs: Any) -> Future[T]:
        try:
            if self._pool is None:
                raise RuntimeError("there is no worker")
            future: Future[T] = self._pool.schedule(function, args, kwargs)
        except RuntimeError as error:  # of the pool itself, whose worker died
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
            # In a thread that may stay: the old pool may be stuck in the half-written pipe.
            threading.Thread(target=old.join, daemon=True).start()

    def _start(self) -> None:
        """Returns at once: the worker takes its time to come up."""
        options = self._options
        pool = ProcessPool(1, 0, options.initializer, options.initargs, options.context)
        self._up: Future[None] = pool.schedule(worker.ready)
        self._up_by = time.monotonic() + options.start_timeout_s
        self._pool = pool
        self._num_tasks = 0
        self.spent = False


async def _is_done(future: Future[Any], timeout_s: float | None = None) -> bool:
    """Waits for it, and leaves it alone when the time is up or the waiting is cancelled."""
    waiter = asyncio.wrap_future(future)
    waiter.add_done_callback(asyncio.Future.exception)  # or asyncio reports that nobody looked
    await asyncio.wait([waiter], timeout=timeout_s)
    return future.done()
