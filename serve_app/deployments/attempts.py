"""Retries and hedging: repeats a request whose replica was lost, and asks elsewhere too while one is silent.

Hedged requests: Dean and Barroso, "The Tail at Scale", 2013, doi:10.1145/2408776.2408794.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from serve_app.errors import (
    DecoderUnavailableError,
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
# Where more of them are silent than this, all are: the stages are slow rather than one replica hung, and
# hedging would only make them slower.
MAX_HEDGED_FRACTION = 0.5
RECHECK_S = 1.0


class Attempts:
    """The retries and hedges of all requests inside one ingress replica."""

    def __init__(self, hedge_after_s: float, meter: Meter) -> None:
        """A request without an answer after `hedge_after_s` gets a second attempt beside the first."""
        self._hedge_after_s = hedge_after_s
        self._meter = meter
        self._num_requests = 0
        self._num_hedged = 0  # of them

    async def first_result(
        self,
        attempt: Callable[[int], Awaitable[Result]],
        request_id: str,
        discard: Callable[[Result], None] = lambda _: None,
    ) -> Result:
        """Returns the result of the first attempt that has one.

        Goes on until the caller's own deadline cancels it: calls into a machine that is cut off neither
        end nor fail.

        Args:
            attempt: gets its number, from 0. Cancelling it must stop what it started.
            discard: gets the result of an attempt that came second.

        Raises:
            PoisonedRequestError: MAX_DIED replicas in a row died while they had it.
            ServeAppError: the request's own fault, or any other that is no loss while nothing else runs.
        """
        request = _Running(attempt, request_id)
        self._num_requests += 1
        try:
            return await self._first_result(request)
        finally:
            self._num_requests -= 1
            self._num_hedged -= request.is_hedged
            request.stop(discard)

    async def _first_result(self, request: "_Running[Result]") -> Result:
        started = asyncio.get_running_loop().time()
        request.begin()
        while True:
            left_s = started + self._hedge_after_s - asyncio.get_running_loop().time()
            task = await request.next_done(left_s if left_s > 0 else RECHECK_S)
            if task is None:
                self._hedge(request)
                continue
            try:
                return task.result()
            except (ReplicaLostError, EngineDeadError) as error:
                self._note_loss(request, error)
            except ServeAppError as error:
                # No room elsewhere, say. The other attempt keeps its place in the queue.
                if isinstance(error, RequestError) or not (
                    request.tasks or _is_local(request, error)
                ):
                    raise
            if len(request.tasks) < 1 + request.is_hedged:
                request.begin(_pause_s(request.num_begun - 1))

    def _hedge(self, request: "_Running[Any]") -> None:
        """From now on two attempts run, unless too many other requests are hedged already."""
        has_room = self._num_hedged < max(1, MAX_HEDGED_FRACTION * self._num_requests)
        if request.is_hedged or not has_room:
            return
        self._num_hedged += 1
        request.is_hedged = True
        self._count(request, "hedged", "no answer yet")
        request.begin()

    def _note_loss(self, request: "_Running[Any]", error: ServeAppError) -> None:
        """Raises PoisonedRequestError."""
        if isinstance(error, EngineGoneError):  # the engine was dead before the request came
            self._count(request, "gone", error)
            return
        request.note_death(error)
        if len(request.died) == MAX_DIED:
            self._meter.record(ATTEMPTS, 1, outcome="poisoned")
            raise PoisonedRequestError(
                f"{MAX_DIED} replicas in a row died while they had this request"
            ) from error
        self._count(request, "lost", error)

    def _count(self, request: "_Running[Any]", outcome: str, reason: object) -> None:
        self._meter.record(ATTEMPTS, 1, outcome=outcome)
        logger.warning("request %s: %s, asking again", request.request_id, reason)


class _Running(Generic[Result]):
    """The attempts at one request, and those of them that still run."""

    def __init__(self, attempt: Callable[[int], Awaitable[Result]], request_id: str) -> None:
        self.request_id = request_id
        self.is_hedged = False
        self.num_begun = 0
        self.tasks: set[asyncio.Future[Result]] = set()
        self.died: set[object] = set()  # the replicas that died over it in a row
        self._attempt = attempt

    def begin(self, pause_s: float = 0.0) -> None:
        """Starts one more attempt, after a pause in which those that run may end."""
        self.tasks.add(asyncio.ensure_future(self._attempt_after(pause_s, self.num_begun)))
        self.num_begun += 1

    async def _attempt_after(self, pause_s: float, number: int) -> Result:
        if pause_s:
            await asyncio.sleep(pause_s)
        return await self._attempt(number)

    async def next_done(self, timeout_s: float) -> asyncio.Future[Result] | None:
        """Returns an attempt that has ended, or None if none does in so many seconds."""
        done, _ = await asyncio.wait(
            self.tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return None
        task = done.pop()
        self.tasks.remove(task)
        return task

    def note_death(self, error: ServeAppError) -> None:
        """Counts a replica once, though two attempts may have been inside it when it died."""
        if isinstance(error, ReplicaDiedError | EngineDeadError):
            self.died.add(error.replica_id or object())
        else:
            self.died.clear()  # lost, but nothing died of it

    def stop(self, discard: Callable[[Result], None]) -> None:
        """Cancels the other attempts; a result that comes all the same is discarded."""

        def end(task: asyncio.Future[Result]) -> None:
            if not task.cancelled() and task.exception() is None:
                discard(task.result())

        for task in self.tasks:
            task.cancel()
            task.add_done_callback(end)


def _is_local(request: _Running[Any], error: ServeAppError) -> bool:
    """Whether it may be the trouble of one machine: asked again, once."""
    return isinstance(error, DecoderUnavailableError) and request.num_begun == 1


def _pause_s(number: int) -> float:
    """Longer each time, and not the same for all who lost the same replica."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**number) * random.uniform(0.5, 1.0)
