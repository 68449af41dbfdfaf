"""The load that a real engine reports, by vLLM's gauges."""

import asyncio

from serve_app.engine.engine import Engine
from serve_app.types import NO_SOURCE, AnswerRequest, Clip, EngineLoad, Sampling

MAX_NUM_SEQS = 32  # of the folder's engine
ENDLESS = Sampling(temperature=0, max_tokens=700)


async def test_a_full_engine_tells_what_runs_and_what_waits(
    engine: Engine, decoded_clips: list[Clip]
) -> None:
    asked = [
        asyncio.create_task(engine.answer(clip, AnswerRequest(NO_SOURCE, "?", sampling=ENDLESS)))
        for clip in decoded_clips * 5
    ]
    full = (MAX_NUM_SEQS, len(asked) - MAX_NUM_SEQS)
    async with asyncio.timeout(60):
        # Requests reach the engine one by one, so it is full before all that wait have come.
        while ((load := engine.current_load()).num_running, load.num_waiting) != full:
            await asyncio.sleep(0.02)
    assert load.max_num_seqs == MAX_NUM_SEQS
    assert 0 < load.kv_cache_usage <= 1
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    # Without another step, which would set vLLM's gauges: the engine would look full for ever.
    assert engine.current_load() == EngineLoad(0, 0, 0, MAX_NUM_SEQS)
