"""Autoscaling on real Serve: a step of load goes from one replica to three and back; nobody notices."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ray import cloudpickle, serve
from serve import stages as stages_module
from serve.stages import BusyGenerator, FakePreprocessor, Root

from serve_app.deployments.clip_router import clip_affinity
from serve_app.deployments.pipeline import ServePipeline
from serve_app.metrics import NoMeter
from serve_app.serve_config import LOAD_POLICY
from serve_app.settings import LimitSettings
from serve_app.types import AnswerRequest, ClipSource

APP, REAL_APP = "scaled", "emotion-llama"
MAX_NUM_SEQS = 4
ANSWER_S = 1.0
# As in configs/serve.multi-gpu.yaml, with the delays of a test.
SCALING: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_ongoing_requests": 1000,  # by which Serve's own policy would never start a second
    "metrics_interval_s": 0.5,
    "look_back_period_s": 1,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 1,
    "policy": {"policy_function": LOAD_POLICY, "policy_kwargs": {"target_seqs_share": 0.75}},
}


@pytest.fixture(scope="module")
def scaled(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServePipeline]:
    """Stand-ins for the stages, beside the real application; the Generator's scales."""
    cloudpickle.register_pickle_by_value(stages_module)
    log = tmp_path_factory.mktemp("scaled") / "log"
    no_cpus = {"num_cpus": 0}
    preprocessor = serve.deployment(FakePreprocessor, ray_actor_options=no_cpus).bind(log)
    generator = serve.deployment(
        BusyGenerator,
        max_ongoing_requests=MAX_NUM_SEQS * 3 // 2,
        max_queued_requests=128,
        graceful_shutdown_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.2,
        autoscaling_config=SCALING,
        request_router_config=clip_affinity(),
        ray_actor_options=no_cpus,
    ).bind(MAX_NUM_SEQS, ANSWER_S)
    root = serve.deployment(Root, ray_actor_options=no_cpus).bind(preprocessor, generator)
    serve.run(root, name=APP, route_prefix="/scaled")
    preprocessor = serve.get_deployment_handle("FakePreprocessor", APP)
    generator = serve.get_deployment_handle("BusyGenerator", APP)
    yield ServePipeline(preprocessor, generator, LimitSettings(), NoMeter())
    serve.delete(APP)
    generator.shutdown()  # else it goes on reporting its queue after Ray's end


def num_replicas() -> int:
    states = serve.status().applications[APP].deployments["BusyGenerator"].replica_states
    return int(states["RUNNING"])


class Clients:
    """So many at a time, each with one request after the other. Failures end the test."""

    def __init__(self, pipeline: ServePipeline) -> None:
        self._pipeline = pipeline
        self._tasks: list[asyncio.Task[None]] = []
        self.answered_by: list[str] = []

    def set(self, number: int) -> None:
        while len(self._tasks) < number:
            self._tasks.append(asyncio.create_task(self._ask_on(len(self._tasks))))
        self._asking = number

    async def _ask_on(self, place: int) -> None:
        count = 0
        while place < self._asking:
            count += 1
            source = ClipSource(path=f"clip {place}-{count}")
            answer = await self._pipeline.answer(AnswerRequest(source, "?"))
            self.answered_by.append(answer.provenance["generator"])

    async def until(self, wanted: int, timeout_s: float) -> None:
        """Until Serve runs so many replicas."""
        deadline = time.monotonic() + timeout_s
        while num_replicas() != wanted:
            assert time.monotonic() < deadline, f"{num_replicas()} replicas; wanted {wanted}"
            for task in self._tasks:
                if task.done():
                    task.result()  # raises what failed
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        self.set(0)
        await asyncio.gather(*self._tasks)


async def test_a_step_of_load_goes_from_one_to_three_and_back_without_a_failure(
    scaled: ServePipeline,
) -> None:
    clients = Clients(scaled)
    clients.set(1)
    await clients.until(1, 90)
    clients.set(12)
    await clients.until(3, 90)
    async with asyncio.timeout(30):
        while len(set(clients.answered_by)) < 3:  # each gets its share
            await asyncio.sleep(0.1)
    clients.set(2)  # whose requests go on while replicas are taken away
    await clients.until(1, 90)
    await clients.stop()


async def test_the_real_generator_tells_serve_how_full_its_engine_is(server_url: str) -> None:
    generator = serve.get_deployment_handle("Generator", REAL_APP)
    told = await generator.record_autoscaling_stats.remote()
    await generator.shutdown_async()
    assert told == {"num_running": 0, "num_waiting": 0, "kv_cache_usage": 0, "max_num_seqs": 64}
