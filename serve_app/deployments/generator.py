"""Generator: a Clip and a question into an Answer, on one vLLM engine per replica."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from pathlib import Path

import ray

from serve_app.deployments.engine_gauges import report_engine
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.traced_engine import TracedEngine
from serve_app.engine.cached_engine import CachedEngine
from serve_app.engine.collector import collector_paused
from serve_app.engine.engine import Engine
from serve_app.errors import EngineDeadError
from serve_app.settings import AnswerCacheSettings, EngineSettings, TraceSettings
from serve_app.trace_start import open_traces
from serve_app.types import Answer, AnswerDelta, AnswerRequest, Clip, LabelScores, ScoreRequest

logger = logging.getLogger(__name__)

LAST_ERRORS_S = 0.2  # for what the other requests are told to leave the process


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
        with collector_paused():
            from serve_app.check import open_checkpoint  # imports transformers and torch

            self._engine = Engine(open_checkpoint(model), settings, reports_to_ray=True)
        engine = CachedEngine(self._engine, cache) if cache.max_bytes else self._engine
        self._traced = TracedEngine(engine, self._traces)
        self._reporting = asyncio.create_task(report_engine(self._engine.current_load, RayMeter()))

    async def answer(self, clip: Clip, request: AnswerRequest) -> Answer:
        """See Engine.answer. Cancelling the request aborts it in the engine."""
        with self._ending_without_engine():
            return await self._traced.answer(clip, request)

    async def stream(self, clip: Clip, request: AnswerRequest) -> AsyncIterator[AnswerDelta]:
        """See Engine.stream. Cancelling the request aborts it in the engine."""
        with self._ending_without_engine():
            async with aclosing(self._traced.stream(clip, request)) as deltas:
                async for delta in deltas:
                    yield delta

    async def score(self, clip: Clip, request: ScoreRequest) -> LabelScores:
        """See Engine.score."""
        with self._ending_without_engine():
            return await self._traced.score(clip, request)

    @contextmanager
    def _ending_without_engine(self) -> Iterator[None]:
        """A replica whose engine is dead or hangs goes at once, so that requests go to others.

        Serve would find out after several failed health checks, and send it requests until then.
        """
        try:
            yield
        except EngineDeadError as error:
            logger.error("this replica ends, for its engine does not work: %s", error)
            error.replica_id = ray.get_runtime_context().get_actor_id()
            loop = asyncio.get_running_loop()
            loop.call_later(LAST_ERRORS_S, os._exit, 1)
            raise

    async def encoder_calls(self) -> int:
        """See Engine.encoder_calls. Only tests call it."""
        return await self._engine.encoder_calls()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve for the policy in serve_app/autoscaling.py: an EngineLoad."""
        return asdict(self._engine.current_load())

    async def check_health(self) -> None:
        """Called by Serve every health_check_period_s."""
        with self._ending_without_engine():
            await self._engine.check_health()

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.shutdown()
        if hasattr(self, "_traces"):
            self._traces.close()
