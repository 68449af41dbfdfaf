"""One request through the stages: affinity, deadline, attempts, and errors back out of Ray's wrapping."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import uuid4

from ray.exceptions import ActorDiedError, RayError, RayTaskError
from ray.serve.context import _set_request_context
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
)
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from serve_app.bundled import SAMPLE
from serve_app.deadline import deadline_in, until
from serve_app.deployments.attempts import Attempts
from serve_app.deployments.clip_router import AGAIN
from serve_app.errors import (
    NotReadyError,
    OverloadedError,
    ReplicaDiedError,
    ReplicaLostError,
    ServeAppError,
)
from serve_app.metrics import Meter, NoMeter
from serve_app.settings import LimitSettings
from serve_app.timings import answer_timings_ms, score_timings_ms
from serve_app.types import (
    Answer,
    AnswerDelta,
    AnswerRequest,
    ClipSource,
    LabelScores,
    Sampling,
    ScoreRequest,
    without_source,
)

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Request = AnswerRequest | ScoreRequest

WARM_UP_RETRY_S = 1.0
WARM_UP_TIMEOUT_S = 120.0  # of one attempt, which waits for the engine to load; then comes the next
HEDGE_AFTER_FRACTION = 0.7  # of the deadline


class ServePipeline:
    """Preprocessor -> Generator, on replicas of Serve, as an AnswerService."""

    def __init__(
        self,
        preprocessor: DeploymentHandle,
        generator: DeploymentHandle,
        limits: LimitSettings,
        meter: Meter,
    ) -> None:
        self._preprocessor = preprocessor
        self._generator = generator
        self._limits = limits
        hedge_after_s = limits.hedge_after_s or HEDGE_AFTER_FRACTION * limits.request_timeout_s
        self._attempts = Attempts(hedge_after_s, meter)
        self._num_in_flight = 0
        self.is_ready = False

    async def warm_up(self) -> None:
        """Send the bundled clip through until it is answered and scored once: both have a slow first time."""
        sample = ClipSource(data=SAMPLE.read_bytes())
        sampling = Sampling(temperature=0, max_tokens=2)
        attempts = Attempts(WARM_UP_TIMEOUT_S, NoMeter())  # an engine that loads is not silent
        while not self.is_ready:
            try:
                # A call into a lost node hangs rather than fails: each attempt has its time.
                async with asyncio.timeout(WARM_UP_TIMEOUT_S):
                    first = AnswerRequest(sample, "warm-up", sampling=sampling)
                    await self._call("answer", first, attempts)
                    scored = ScoreRequest(sample, "warm-up", ("yes", "no"))
                    await self._call("score", scored, attempts)
                self.is_ready = True
            except Exception:
                logger.exception("warm-up failed; trying again in %s s", WARM_UP_RETRY_S)
                await asyncio.sleep(WARM_UP_RETRY_S)

    async def answer(self, request: AnswerRequest) -> Answer:
        """See AnswerService. Raises OverloadedError, DeadlineExceededError, or what a stage raised."""
        started = time.perf_counter()
        answer = await self._admitted(self._answer(request))
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return replace(answer, timings_ms=answer_timings_ms(answer.timings_ms, elapsed_ms))

    async def score(self, request: ScoreRequest) -> LabelScores:
        """See AnswerService. Raises what `answer` raises."""
        started = time.perf_counter()
        scores = await self._admitted(self._score(request))
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return replace(scores, timings_ms=score_timings_ms(scores.timings_ms, elapsed_ms))

    async def stream(self, request: AnswerRequest) -> AsyncGenerator[AnswerDelta, None]:
        """See AnswerService. The deadline is that of the whole answer. Raises what `answer` raises.

        Until its first delta it is asked again like `answer`; what was said cannot be said again.
        """
        self._admit()
        opened: OpenStream | None = None
        limit_s = self._limits.request_timeout_s
        deadline = deadline_in(limit_s)
        try:
            async with until(deadline, limit_s):
                opened = await self._open_stream(request)
            delta: AnswerDelta | None = opened.first
            while delta is not None:
                yield delta
                # Not around the yield: the next delta may be asked for by another task.
                async with until(deadline, limit_s):
                    delta = await anext(opened.deltas, None)
            opened = None
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            raise unwrap(error) from None
        finally:
            self._num_in_flight -= 1
            # The client left, the deadline passed, or a stage failed: stop both.
            if opened is not None:
                opened.cancel()

    async def _open_stream(self, request: AnswerRequest) -> "OpenStream":
        """A stream whose first delta has come, by as many attempts as it takes."""
        key = await routing_key(request.source)
        return await self._attempts.first_result(
            lambda number: self._attempt_stream(request, key, number),
            request.request_id,
            OpenStream.cancel,
        )

    async def _attempt_stream(self, request: AnswerRequest, key: str, number: int) -> "OpenStream":
        clip, generator = self._start_attempt(request, key, number)
        deltas = generator.options(stream=True).stream.remote(clip, without_source(request))
        opened = OpenStream(clip, deltas)
        try:
            opened.first = await anext(deltas, None)
        except BaseException as error:
            opened.cancel()
            if isinstance(error, Exception):
                raise unwrap(error) from None
            raise
        return opened

    async def _answer(self, request: AnswerRequest) -> Answer:
        answer: Answer = await self._call("answer", request, self._attempts)
        return answer

    async def _score(self, request: ScoreRequest) -> LabelScores:
        scores: LabelScores = await self._call("score", request, self._attempts)
        return scores

    async def _call(self, method: str, request: Request, attempts: Attempts) -> Any:
        """What that method of a Generator returns, by as many attempts as it takes."""
        key = await routing_key(request.source)
        return await attempts.first_result(
            lambda number: self._attempt_call(method, request, key, number), request.request_id
        )

    async def _admitted(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The work's result by the deadline, unless too many requests are inside already."""
        try:
            self._admit()
        except OverloadedError:
            work.close()
            raise
        try:
            limit_s = self._limits.request_timeout_s
            async with until(deadline_in(limit_s), limit_s):
                return await work
        finally:
            self._num_in_flight -= 1

    def _admit(self) -> None:
        limit = self._limits.max_in_flight
        if self._num_in_flight >= limit:
            raise OverloadedError(f"{limit} requests are in progress already; the limit is {limit}")
        self._num_in_flight += 1

    async def _attempt_call(self, method: str, request: Request, key: str, number: int) -> Any:
        clip, generator = self._start_attempt(request, key, number)
        answer = getattr(generator, method).remote(clip, without_source(request))
        try:
            return await answer
        except BaseException as error:
            # The client left, the deadline passed, or a stage failed: nobody waits for either any more.
            cancel(answer, clip)
            if isinstance(error, Exception):
                raise unwrap(error) from None
            raise

    def _start_attempt(
        self, request: Request, key: str, number: int
    ) -> tuple[DeploymentResponse, DeploymentHandle]:
        """Begins the decoding.

        Requests about one clip go to the replicas that hold it; a further attempt begins at others.

        Returns:
            The clip, to be passed on un-awaited so that its pixels go from replica to replica; and the
            Generator to pass it to.
        """
        # Serve's routers tell waiting calls apart by an id that all calls of one HTTP request share: of two
        # attempts that wait for a replica at once, one would wait for ever.
        _set_request_context(_internal_request_id=uuid4().hex)
        if number:
            key += f"{AGAIN}{request.request_id}-{number}"
        preprocessor = self._preprocessor.options(session_id=key, _by_reference=True)
        generator = self._generator.options(session_id=key, _by_reference=True)
        clip = preprocessor.decode.remote(
            request.source, request.decode_options, request.traceparent
        )
        return clip, generator


@dataclass(slots=True)
class OpenStream:
    """A stream whose first delta has come, and what stops it."""

    clip: DeploymentResponse
    deltas: Any  # a DeploymentResponseGenerator
    first: AnswerDelta | None = None

    def cancel(self) -> None:
        cancel(self.deltas, self.clip)


def cancel(*responses: Any) -> None:
    """What is still at work for them stops. Serve raises here what one has failed with already."""
    for response in responses:
        with suppress(Exception):
            response.cancel()


async def routing_key(source: ClipSource) -> str:
    """Bytes in a thread of its own: the hash of a large clip takes longer than others should wait."""
    return source.key() if source.data is None else await asyncio.to_thread(source.key)


def unwrap(error: Exception) -> Exception:
    """The ServeAppError inside Ray's wrapping, or its equivalent; other errors stay as they are."""
    cause: BaseException = error
    while isinstance(cause, RayTaskError):
        cause = cause.cause
    if isinstance(cause, ServeAppError):
        return cause
    if isinstance(cause, BackPressureError):
        return OverloadedError(f"a stage behind the ingress is full: {cause}")
    if isinstance(cause, DeploymentUnavailableError):
        return NotReadyError(cause.message)
    # The second: of the clip's producer, before the generator had the clip. Serve wraps it.
    for death in (cause, cause.__cause__):
        if isinstance(death, ActorDiedError):
            died = ReplicaDiedError(f"the replica that held the request is gone: {cause}")
            died.replica_id = death.actor_id
            return died
    if isinstance(cause, (RayError, RayServeException)):
        return ReplicaLostError(f"a call to a replica failed: {cause}")
    return error
