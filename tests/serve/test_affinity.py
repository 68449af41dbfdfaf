"""Affinity under load on real Serve: clips stay where they are held, and one that all ask about spreads."""

from collections.abc import Iterator

import pytest
from ray import cloudpickle, serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from serve import holders as holders_module
from serve.holders import Holder, hit_rate, idle_while_another_has, three_questions_each, visit_all

from serve_app.deployments.clip_router import clip_affinity

NUM_REPLICAS, NUM_CLIENTS, NUM_CLIPS = 4, 32, 200
TAKES_S = 0.05
BATCH = 16  # what an engine runs at a time; what comes beyond it waits


@pytest.fixture(scope="module")
def by_clip(server_url: str) -> Iterator[DeploymentHandle]:
    yield from deployed("by-clip", clip_affinity())


@pytest.fixture(scope="module")
def at_random(server_url: str) -> Iterator[DeploymentHandle]:
    """Serve's own choice: the less busy one of two."""
    yield from deployed("at-random", RequestRouterConfig())


def deployed(name: str, router: RequestRouterConfig) -> Iterator[DeploymentHandle]:
    cloudpickle.register_pickle_by_value(holders_module)
    deployment = serve.deployment(
        Holder,
        num_replicas=NUM_REPLICAS,
        max_ongoing_requests=100,
        request_router_config=router,
        ray_actor_options={"num_cpus": 0},
    )
    yield serve.run(deployment.bind(TAKES_S), name=name, route_prefix=f"/{name}")
    serve.delete(name)


async def test_further_questions_go_to_the_replica_that_holds_the_clip(
    by_clip: DeploymentHandle, at_random: DeploymentHandle
) -> None:
    clips = three_questions_each(NUM_CLIPS, seed=1)
    ours = hit_rate(await visit_all(by_clip, clips, NUM_CLIENTS))
    random = hit_rate(await visit_all(at_random, clips, NUM_CLIENTS))
    print(f"hit rate {ours:.3f}, at random {random:.3f}")
    assert ours >= 0.9
    assert random < 0.6


async def test_a_clip_that_half_of_all_ask_about_spreads_and_leaves_nobody_idle(
    by_clip: DeploymentHandle,
) -> None:
    others = [f"other {clip}" for clip in three_questions_each(NUM_CLIPS, seed=2)]
    mixed = [clip for other in others for clip in (other, "the hot clip")]
    visits = await visit_all(by_clip, mixed, NUM_CLIENTS)
    rate, idle_s = hit_rate(visits), idle_while_another_has(visits, BATCH, NUM_REPLICAS)
    hot = {visit.replica for visit in visits if visit.clip == "the hot clip"}
    took_s = max(visit.ended for visit in visits) - min(visit.began for visit in visits)
    print(f"hit rate {rate:.3f}, {len(hot)} hold the hot clip, idle {idle_s:.3f} of {took_s:.1f} s")
    assert rate >= 0.8
    assert len(hot) > 1
    assert idle_s < 0.1 * took_s  # as it begins and as it ends
