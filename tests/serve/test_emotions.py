"""POST /v1/emotions and the answer in words are one model's, and the second of them costs no decoding."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve
from serve.conftest import APP_NAME

from serve_app.emotions import NINE, emotion_question
from serve_app.media.pool import DecodeCounts

NUM_CLIENTS = 8


async def test_the_most_probable_label_is_the_greedy_answer_and_a_clip_is_worked_on_once(
    server_url: str, fresh_clips: list[Path]
) -> None:
    preprocessor = serve.get_deployment_handle("Preprocessor", APP_NAME)
    generator = serve.get_deployment_handle("Generator", APP_NAME)
    before: DecodeCounts = await preprocessor.decode_counts.remote()
    await generator.encoder_calls.remote()
    gate = asyncio.Semaphore(NUM_CLIENTS)

    async with httpx.AsyncClient(base_url=server_url, timeout=60) as client:

        async def is_answer(clip: Path) -> bool:
            async with gate:
                asked: dict[str, Any] = {"video_path": str(clip)}
                scored = (await client.post("/v1/emotions", json=asked)).json()
                total = sum(each["probability"] for each in scored["probabilities"])
                assert total == pytest.approx(1, abs=1e-6)
                greedy = {"question": emotion_question(NINE), "temperature": 0}
                answered = (await client.post("/process_video", json=asked | greedy)).json()
                return bool(answered["response"] == scored["emotion"])

        agree = await asyncio.gather(*map(is_answer, fresh_clips))

    assert sum(agree) >= 0.99 * len(fresh_clips), f"{sum(agree)} of {len(fresh_clips)}"
    after: DecodeCounts = await preprocessor.decode_counts.remote()
    assert after.num_decoded - before.num_decoded == len(fresh_clips)
    assert after.num_hits - before.num_hits == len(fresh_clips)
    assert await generator.encoder_calls.remote() == len(fresh_clips)
