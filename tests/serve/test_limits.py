"""Keys and limits on real Serve with two ingress replicas: one limit for both, and uploads without a file."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ray import cloudpickle, serve
from serve import stages as stages_module
from serve.stages import FakeGenerator, FakePreprocessor

from serve_app.deployments.ingress import Ingress
from serve_app.settings import AccessSettings, AppSettings

APP = "limited"
LIMIT, NUM_REQUESTS = 10, 40


@pytest.fixture(scope="module")
def limited_url(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two ingress replicas over stand-ins for the stages, beside the real application."""
    cloudpickle.register_pickle_by_value(stages_module)
    log = tmp_path_factory.mktemp("limited") / "log"
    log.write_text("warm-up failed")
    options = {"num_cpus": 0}
    stages = [
        serve.deployment(stage, ray_actor_options=options).bind(log)
        for stage in (FakePreprocessor, FakeGenerator)
    ]
    settings = AppSettings(model=Path("/m"), access=AccessSettings(rate=f"{LIMIT}/minute"))
    ingress = serve.deployment(Ingress, num_replicas=2, ray_actor_options=options)
    serve.run(ingress.bind(*stages, settings), name=APP, route_prefix="/limited")
    yield f"{server_url}/limited"
    serve.delete(APP)


async def test_two_replicas_keep_one_limit(limited_url: str) -> None:
    body = {"video_path": "/a.mp4", "question": "?"}
    async with httpx.AsyncClient(timeout=60) as client:
        posts = (
            client.post(f"{limited_url}/process_video", json=body) for _ in range(NUM_REQUESTS)
        )
        responses = await asyncio.gather(*posts)
    statuses = [response.status_code for response in responses]
    assert statuses.count(200) == LIMIT
    assert statuses.count(429) == NUM_REQUESTS - LIMIT
    passed = [r.headers["X-RateLimit-Remaining"] for r in responses if r.status_code == 200]
    assert sorted(map(int, passed)) == list(range(LIMIT))


async def test_nobody_chooses_the_address_that_is_counted(limited_url: str) -> None:
    body = {"video_path": "/a.mp4", "question": "?"}
    async with httpx.AsyncClient(timeout=60) as client:
        for number in range(LIMIT + 1):
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            response = await client.post(f"{limited_url}/process_video", json=body, headers=headers)
    assert response.status_code == 429
