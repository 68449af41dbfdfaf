"""Both stages in one process, without Ray or HTTP.

`emotion-llama ask --model` uses it, and the benchmark as its baseline.
"""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from serve_app.check import open_checkpoint
from serve_app.engine.engine import Engine
from serve_app.media.pool import DecodePool
from serve_app.settings import EngineSettings, MediaSettings
from serve_app.timings import answer_timings_ms, score_timings_ms
from serve_app.types import Answer, AnswerRequest, LabelScores, ScoreRequest


class LocalPipeline:
    """A decode pool feeding an engine. Create it inside a running event loop; close it when done."""

    def __init__(self, model: Path, media: MediaSettings, engine: EngineSettings) -> None:
        checkpoint = open_checkpoint(model)
        self._pool = DecodePool(media, checkpoint.image_size)
        self._engine = Engine(checkpoint, engine)

    async def answer(self, request: AnswerRequest) -> Answer:
        """Answer a question. Raises the same ServeAppErrors as over HTTP."""
        started = time.perf_counter()
        clip = await self._pool.decode(request.source, request.decode_options)
        answer = await self._engine.answer(clip, request)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return replace(answer, timings_ms=answer_timings_ms(answer.timings_ms, elapsed_ms))

    async def score(self, request: ScoreRequest) -> LabelScores:
        """Score labels. Raises the same ServeAppErrors as over HTTP."""
        started = time.perf_counter()
        clip = await self._pool.decode(request.source, request.decode_options)
        scores = await self._engine.score(clip, request)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return replace(scores, timings_ms=score_timings_ms(scores.timings_ms, elapsed_ms))

    async def close(self) -> None:
        """End the engine process and the decode workers."""
        await asyncio.to_thread(self._pool.close)
        self._engine.shutdown()
