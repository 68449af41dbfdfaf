"""Asks again where a replica was lost or is silent: elsewhere, and not more often than others can bear."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from serve_app.errors import (
    EngineDeadError,
    EngineGoneError,
    PoisonedRequestError,
    ReplicaDiedError,
    ReplicaLostError,
    RequestError,
    ServeAppError,
)
from serve_app.metrics import ATTEMPTS, Meter

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
MAX_DIED = 2  # a request that two replicas in a row did not outlive may well have killed them
# Where more of them are late than this, all are: the stages are slow, not one of them silent, and asking
# again would only make them slower.
MAX_LATE_SHARE = 0.5
RECHECK_S = 1.0


class Attempts:
    """Of all the requests inside one ingress replica."""

    def __init__(self, timeout_s: float, meter: Meter) -> None:
        """A second attempt begins after `timeout_s` without an answer, beside the first."""
        self._timeout_s = timeout_s
        self._meter = meter
        self._num_requests = 0
        self._num_late = 0  # that are asked twice

    async def first_result(
        self,
        attempt: Callable[[int], Awaitable[Result]],
        request_id: str,
        discard: Callable[[Result], None] = lambda _: None,
    ) -> Result:
        """The result of the first attempt that is not lost.

        It goes on until the caller's own deadline cancels it: calls into a machine that is cut off neither
        end nor fail.

        Args:
            attempt: gets its number, from 0. Cancelling it must stop what it started.
            discard: gets the result of an attempt that came second.

        Raises:
            PoisonedRequestError: MAX_DIED replicas died over it. And whatever an attempt raises that is
                not a loss, unless it is about no fault of the request and another attempt is at work.
        """
        request = _Running(attempt, request_id)
        self._num_requests += 1
        try:
            return await self._first_result(request)
        finally:
            self._num_requests -= 1
            self._num_late -= request.is_late
            request.stop(discard)

    async def _first_result(self, request: "_Running[Result]") -> Result:
        num_died = 0
        request.begin()
        patience_s = self._timeout_s
        while True:
            task = await request.next_done(patience_s)
            if task is None:
                patience_s = RECHECK_S
                self._ask_also_elsewhere(request)
                continue
            try:
                return task.result()
            except (ReplicaLostError, EngineDeadError) as error:
                if not isinstance(error, EngineGoneError):  # which says nothing of this request
                    num_died = num_died + 1 if _is_death(error) else 0
                if num_died == MAX_DIED:
                    self._meter.record(ATTEMPTS, 1, outcome="poisoned")
                    raise PoisonedRequestError(
                        f"{MAX_DIED} replicas in a row died while they had this request"
                    ) from error
                self._note(request, "gone" if isinstance(error, EngineGoneError) else "lost", error)
            except ServeAppError as error:
                # No room elsewhere, say. The other attempt keeps its place in the queue.
                if isinstance(error, RequestError) or not request.tasks:
                    raise
                continue
            if len(request.tasks) < 1 + request.is_late:
                request.begin(_pause_s(request.num_begun - 1))
                patience_s = self._timeout_s

    def _ask_also_elsewhere(self, request: "_Running[Any]") -> None:
        """Two are at work from now on, where not too many others are late as well."""
        has_room = self._num_late < max(1, MAX_LATE_SHARE * self._num_requests)
        if request.is_late or not has_room:
            return
        self._num_late += 1
        request.is_late = True
        self._note(request, "timed_out", "no answer yet")
        request.begin()

    def _note(self, request: "_Running[Any]", outcome: str, reason: object) -> None:
        self._meter.record(ATTEMPTS, 1, outcome=outcome)
        logger.warning("request %s: %s, asking again", request.request_id, reason)


class _Running(Generic[Result]):
    """The attempts at one request, and those of them that are still at work."""

    def __init__(self, attempt: Callable[[int], Awaitable[Result]], request_id: str) -> None:
        self.request_id = request_id
        self.is_late = False
        self.num_begun = 0
        self.tasks: set[asyncio.Future[Result]] = set()
        self._attempt = attempt

    def begin(self, pause_s: float = 0.0) -> None:
        """Another one, after a pause in which those at work may end."""
        self.tasks.add(asyncio.ensure_future(self._attempt_after(pause_s, self.num_begun)))
        self.num_begun += 1

    async def _attempt_after(self, pause_s: float, number: int) -> Result:
        if pause_s:
            await asyncio.sleep(pause_s)
        return await self._attempt(number)

    async def next_done(self, timeout_s: float) -> asyncio.Future[Result] | None:
        """One that has ended, or None after so many seconds without any."""
        done, _ = await asyncio.wait(
            self.tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return None
        task = done.pop()
        self.tasks.remove(task)
        return task

    def stop(self, discard: Callable[[Result], None]) -> None:
        """Cancel the others; a result that comes all the same is discarded."""

        def end(task: asyncio.Future[Result]) -> None:
            if not task.cancelled() and task.exception() is None:
                discard(task.result())

        for task in self.tasks:
            task.cancel()
            task.add_done_callback(end)


def _is_death(error: Exception) -> bool:
    """Of a replica that had the request, as far as anybody knows because of it."""
    return isinstance(error, ReplicaDiedError | EngineDeadError) and not isinstance(
        error, EngineGoneError
    )


def _pause_s(number: int) -> float:
    """Longer each time, and not the same for all who lost the same replica."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**number) * random.uniform(0.5, 1.0)
