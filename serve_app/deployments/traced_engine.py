"""An engine whose requests are traced, with the parts of each as parts of its span.

An answer has the engine's own times. A stream has none: its parts are timed here.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from serve_app.engine.cached_engine import CachedEngine
from serve_app.engine.engine import Engine
from serve_app.timings import ms_since
from serve_app.traces import Span, Traces
from serve_app.types import (
    Answer,
    AnswerDelta,
    AnswerRequest,
    CacheStatus,
    Clip,
    LabelScores,
    ScoreRequest,
    Usage,
)

SPAN = "generate"


class TracedEngine:
    """Engine's three ways to ask. A span belongs to the request's `traceparent`."""

    def __init__(self, engine: Engine | CachedEngine, traces: Traces) -> None:
        self._engine, self._traces = engine, traces

    async def answer(self, clip: Clip, request: AnswerRequest) -> Answer:
        """See Engine.answer."""
        with self._traces.span(SPAN, request.traceparent) as span:
            answer = await self._engine.answer(clip, request)
            _describe(span, answer.usage, answer.cache)
            times = answer.timings_ms
            if answer.cache != "hit":
                _add_parts(span, times["queue"], times["first_token"], times["total"])
            return answer

    async def stream(self, clip: Clip, request: AnswerRequest) -> AsyncGenerator[AnswerDelta, None]:
        """See Engine.stream. What comes before the first delta is all prefill: a queue cannot be told."""
        started = time.perf_counter()
        first_ms = None
        with self._traces.span(SPAN, request.traceparent) as span:
            async with aclosing(self._engine.stream(clip, request)) as deltas:
                async for delta in deltas:
                    first_ms = first_ms or ms_since(started)
                    if delta.usage is not None:
                        _describe(span, delta.usage, delta.cache)
                        _add_parts(span, 0.0, first_ms, ms_since(started))
                    yield delta

    async def score(self, clip: Clip, request: ScoreRequest) -> LabelScores:
        """See Engine.score. Many short requests: no parts."""
        with self._traces.span("score", request.traceparent) as span:
            scores = await self._engine.score(clip, request)
            _describe(span, scores.usage, scores.cache)
            return scores


def _describe(span: Span, usage: Usage, cache: CacheStatus) -> None:
    span.set(
        {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "emotion_llama.cached_tokens": usage.cached_tokens,
            **({} if cache is None else {"emotion_llama.cache": cache}),
        }
    )


def _add_parts(span: Span, queue_ms: float, first_token_ms: float, total_ms: float) -> None:
    ends_ms = {"queue": queue_ms, "prefill": first_token_ms, "decode tokens": total_ms}
    span.add_parts({part: end_ms / 1e3 for part, end_ms in ends_ms.items()})
