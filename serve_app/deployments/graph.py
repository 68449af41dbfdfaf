"""One request through the graph: affinity, deadline, attempts, and errors back out of Ray's wrapping."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from serve_app.bundled import SAMPLE
from serve_app.deployments.attempts import repeated
from serve_app.errors import DeadlineExceededError, OverloadedError, ReplicaLostError, ServeAppError
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


class Graph:
    """Preprocessor -> Generator as an AnswerService."""

    def __init__(
        self, preprocessor: DeploymentHandle, generator: DeploymentHandle, limits: LimitSettings
    ) -> None:
        self._preprocessor = preprocessor
        self._generator = generator
        self._limits = limits
        self._num_in_flight = 0
        self.is_ready = False

    async def warm_up(self) -> None:
        """Send the bundled clip through until it is answered and scored once: both have a slow first time."""
        sample = ClipSource(data=SAMPLE.read_bytes())
        sampling = Sampling(temperature=0, max_tokens=2)
        while not self.is_ready:
            try:
                # A call into a lost node hangs rather than fails: each attempt has its time.
                async with asyncio.timeout(WARM_UP_TIMEOUT_S):
                    await self._answer(AnswerRequest(sample, "warm-up", sampling=sampling))
                    await self._score(ScoreRequest(sample, "warm-up", ("yes", "no")))
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
        begun: Begun | None = None
        deadline = asyncio.get_running_loop().time() + self._limits.request_timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                begun = await self._repeated(request, lambda n: self._begin(request, n))
            delta: AnswerDelta | None = begun.first
            while delta is not None:
                yield delta
                # Not around the yield: the next delta may be asked for by another task.
                async with asyncio.timeout_at(deadline):
                    delta = await anext(begun.deltas, None)
            begun = None
        except TimeoutError:
            raise self._too_late() from None
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            raise unwrap(error) from None
        finally:
            self._num_in_flight -= 1
            if (
                begun is not None
            ):  # the client left, the deadline passed, or a stage failed: stop both
                begun.cancel()

    async def _begin(self, request: AnswerRequest, number: int) -> "Begun":
        """One attempt at a stream, as far as its first delta."""
        clip, generator = self._decode(request, number)
        deltas = generator.options(stream=True).stream.remote(clip, without_source(request))
        begun = Begun(clip, deltas)
        try:
            begun.first = await anext(deltas, None)
        except asyncio.CancelledError:
            begun.cancel()
            raise
        except Exception as error:
            begun.cancel()
            raise unwrap(error) from None
        return begun

    async def _answer(self, request: AnswerRequest) -> Answer:
        def ask(generator: DeploymentHandle, clip: Any) -> Any:
            return generator.answer.remote(clip, without_source(request))

        answer: Answer = await self._repeated(request, lambda n: self._send(request, ask, n))
        return answer

    async def _score(self, request: ScoreRequest) -> LabelScores:
        def ask(generator: DeploymentHandle, clip: Any) -> Any:
            return generator.score.remote(clip, without_source(request))

        scores: LabelScores = await self._repeated(request, lambda n: self._send(request, ask, n))
        return scores

    async def _repeated(
        self, request: Request, attempt: Callable[[int], Awaitable[Result]]
    ) -> Result:
        return await repeated(attempt, self._limits.attempt_timeout_s, request.request_id)

    async def _admitted(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The work's result by the deadline, unless too many requests are inside already."""
        try:
            self._admit()
        except OverloadedError:
            work.close()
            raise
        try:
            async with asyncio.timeout(self._limits.request_timeout_s):
                return await work
        except TimeoutError:
            raise self._too_late() from None
        finally:
            self._num_in_flight -= 1

    def _admit(self) -> None:
        limit = self._limits.max_in_flight
        if self._num_in_flight >= limit:
            raise OverloadedError(f"{limit} requests are in progress already; the limit is {limit}")
        self._num_in_flight += 1

    def _too_late(self) -> DeadlineExceededError:
        return DeadlineExceededError(f"no answer within {self._limits.request_timeout_s} s")

    async def _send(
        self, request: Request, ask: Callable[[DeploymentHandle, Any], Any], number: int
    ) -> Any:
        """What a generator says about the decoded clip; `ask` puts the question to it."""
        clip, generator = self._decode(request, number)
        answer = ask(generator, clip)
        try:
            return await answer
        except asyncio.CancelledError:
            # The client left, or the deadline passed: stop both stages.
            answer.cancel()
            clip.cancel()
            raise
        except Exception as error:
            raise unwrap(error) from None

    def _decode(self, request: Request, number: int) -> tuple[DeploymentResponse, DeploymentHandle]:
        """The clip, to be passed on un-awaited so that its pixels go from replica to replica; and to whom.

        Requests of one clip go to the replicas that hold it; a further attempt begins at others.
        """
        key = f"{request.source.key()}{f'-{number}' if number else ''}"
        preprocessor = self._preprocessor.options(session_id=key, _by_reference=True)
        generator = self._generator.options(session_id=key, _by_reference=True)
        clip = preprocessor.decode.remote(
            request.source, request.decode_options, request.traceparent
        )
        return clip, generator


@dataclass(slots=True)
class Begun:
    """A stream whose first delta has come, and what stops it."""

    clip: DeploymentResponse
    deltas: Any  # a DeploymentResponseGenerator
    first: AnswerDelta | None = None

    def cancel(self) -> None:
        self.deltas.cancel()
        self.clip.cancel()


def unwrap(error: Exception) -> Exception:
    """The ServeAppError inside Ray's wrapping, or its equivalent; other errors stay as they are."""
    cause: BaseException = error
    while isinstance(cause, RayTaskError):
        cause = cause.cause
    if isinstance(cause, ServeAppError):
        return cause
    if isinstance(cause, BackPressureError):
        return OverloadedError(f"a stage behind the ingress is full: {cause}")
    # RayServeException itself: the clip's producer died before the generator had the clip.
    if isinstance(cause, (RayError, RayServeException)):
        return ReplicaLostError(f"the replica that held the request is gone: {cause}")
    return error
