"""Generator: a Clip and a question into an Answer, on one vLLM engine per replica."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from serve_app.cached_engine import CachedEngine
from serve_app.check import open_checkpoint
from serve_app.deployments.engine_gauges import report_engine
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.traced_engine import TracedEngine
from serve_app.engine import Engine
from serve_app.settings import AnswerCacheSettings, EngineSettings, TraceSettings
from serve_app.traces import open_traces
from serve_app.types import (
    Answer,
    AnswerDelta,
    Clip,
    LabelScores,
    PromptOptions,
    Sampling,
    Turn,
)


class Generator:
    """Owns the engine. Its health is the engine's: a dead EngineCore gets the replica replaced."""

    # async: AsyncLLM wants to be created inside the replica's event loop, and Serve awaits it.
    async def __init__(  # type: ignore[misc]
        self,
        model: Path,
        settings: EngineSettings,
        cache: AnswerCacheSettings,
        traces: TraceSettings,
    ) -> None:
        self._traces = open_traces(traces, "Generator")
        self._engine = Engine(open_checkpoint(model), settings, reports_to_ray=True)
        asked = CachedEngine(self._engine, cache) if cache.max_bytes else self._engine
        self._asked = TracedEngine(asked, self._traces)
        self._reporting = asyncio.create_task(report_engine(RayMeter()))

    async def answer(
        self,
        clip: Clip,
        question: str,
        sampling: Sampling,
        request_id: str,
        options: PromptOptions,
        history: tuple[Turn, ...] = (),
        traceparent: str | None = None,
    ) -> Answer:
        """Cancelling the request aborts it in the engine."""
        asked = (clip, question, sampling, request_id, options, history)
        return await self._asked.answer(traceparent, *asked)

    async def stream(
        self,
        clip: Clip,
        question: str,
        sampling: Sampling,
        request_id: str,
        options: PromptOptions,
        history: tuple[Turn, ...] = (),
        traceparent: str | None = None,
    ) -> AsyncIterator[AnswerDelta]:
        """See Engine.stream. Cancelling the request aborts it in the engine."""
        asked = (clip, question, sampling, request_id, options, history)
        async with aclosing(self._asked.stream(traceparent, *asked)) as deltas:
            async for delta in deltas:
                yield delta

    async def score(
        self,
        clip: Clip,
        question: str,
        labels: tuple[str, ...],
        request_id: str,
        options: PromptOptions,
        traceparent: str | None = None,
    ) -> LabelScores:
        """See Engine.score."""
        asked = (clip, question, labels, request_id, options)
        return await self._asked.score(traceparent, *asked)

    async def encoder_calls(self) -> int:
        """See Engine.encoder_calls."""
        return await self._engine.encoder_calls()

    async def num_running(self) -> int:
        """See Engine.num_running."""
        return self._engine.num_running()

    async def check_health(self) -> None:
        """Called by Serve every health_check_period_s."""
        await self._engine.check_health()

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.shutdown()
        if hasattr(self, "_traces"):
            self._traces.close()
