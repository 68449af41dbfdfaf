"""One worker process behind a pebble pool of its own: whatever kills it costs one clip.

A pebble pool is broken for good once a worker dies while idle, and its workers share one pipe,
which a killed one may leave half written. So a lane has one worker, takes one task at a time, and
gets a new pool whenever the worker ended by any hand but pebble's, or ran out of memory.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from serve_app.media.context import WorkerContext

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How the worker of a lane is started."""

    context: WorkerContext
    initializer: Callable[..., None]
    initargs: tuple[Any, ...]
    max_tasks: int = 0  # it is replaced after so many; 0: never


class Lane:
    """Takes one task at a time: a second one's wall time would run while it waits."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._pool = self._start()

    async def run(
        self, timeout_s: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Raises what the function does, TimeoutError once it is killed, ProcessExpired if it died.

        Cancelling kills the function, too.
        """
        try:
            return await self._run(timeout_s, function, args, kwargs)
        except BrokenProcessPool:  # the worker died while idle: the task has not begun
            await self._renew()
            return await self._run(timeout_s, function, args, kwargs)
        except (ProcessExpired, MemoryError):  # what filled the memory may still be in it
            await self._renew()
            raise

    def close(self) -> None:
        """Kills the worker. Returns when it is gone."""
        self._pool.stop()
        self._pool.join()

    async def _run(self, timeout_s: float, function: Callable[..., T], args: Any, kwargs: Any) -> T:
        try:
            future = self._pool.schedule(function, args, kwargs, timeout_s)
        except RuntimeError as error:  # of the pool itself, whose worker died
            raise BrokenProcessPool(str(error)) from error
        result: T = await asyncio.wrap_future(future)
        return result

    async def _renew(self) -> None:
        old = self._pool
        old.stop()
        # In a thread that may stay: the old pool may be stuck in the half-written pipe.
        threading.Thread(target=old.join, daemon=True).start()
        self._pool = await asyncio.to_thread(self._start)

    def _start(self) -> ProcessPool:
        options = self._options
        pool = ProcessPool(
            1, options.max_tasks, options.initializer, options.initargs, options.context
        )
        assert pool.active  # asking starts it
        return pool
