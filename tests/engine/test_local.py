"""Both stages in one process, on the folder's engine."""

import time
from pathlib import Path

import pytest

from serve_app import local
from serve_app.engine.engine import Engine
from serve_app.settings import EngineSettings, MediaSettings
from serve_app.types import ClipSource, ScoreRequest


async def test_a_score_has_its_callers_total_as_over_http(
    engine: Engine,
    tiny_checkpoint: Path,
    clip_files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "Engine", lambda *_: engine)
    pipeline = local.LocalPipeline(tiny_checkpoint, MediaSettings(), EngineSettings())
    request = ScoreRequest(ClipSource(data=clip_files[0].read_bytes()), "which?", ("happy", "sad"))
    try:
        started = time.perf_counter()
        timings_ms = (await pipeline.score(request)).timings_ms
        elapsed_ms = (time.perf_counter() - started) * 1e3
    finally:
        pipeline._pool.close()  # not the engine, which is the other tests' too
    assert elapsed_ms - timings_ms["decode"] < timings_ms["total"] <= elapsed_ms
