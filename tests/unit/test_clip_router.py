"""The order of replicas for a clip: by the ring, below a bound first, elsewhere when it was lost there."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.common import DeploymentID, ReplicaID

from serve_app.deployments.clip_router import AGAIN, ClipRouter

NUM_REPLICAS = 4


def router(num_replicas: int = NUM_REPLICAS) -> Any:
    """One that knows its replicas, without the cluster that its constructor asks for."""
    made: Any = object.__new__(ClipRouter)
    made._deployment_id = DeploymentID("stage")
    made.initialize_state()
    made._num_fallback_replicas = num_replicas - 1
    made._rebuild_ring(
        frozenset(ReplicaID(str(n), DeploymentID("stage")) for n in range(num_replicas))
    )
    return made


def order(of: Any, key: str) -> list[str]:
    return [replica.unique_id for replica in of._lookup_ranked_replicas(key)]


@pytest.mark.parametrize(
    ("num_ongoing", "bound"),
    [(0, 8), (15, 8), (16, 9), (31, 16), (400, 201)],
)
def test_the_bound_is_a_share_of_the_load(num_ongoing: int, bound: int) -> None:
    assert router()._bound(num_ongoing, NUM_REPLICAS) == bound


@pytest.mark.parametrize("num_replicas", [2, 4, 8])
def test_a_further_attempt_never_begins_where_the_first_did(num_replicas: int) -> None:
    ring = router(num_replicas)
    for clip in range(50):
        first = order(ring, f"clip {clip}")
        for attempt in range(20):
            again = order(ring, f"clip {clip}{AGAIN}request-{attempt}")
            assert again[0] != first[0]
            assert sorted(again) == sorted(first)


def test_further_attempts_about_one_clip_spread_over_the_others() -> None:
    begins = Counter(order(router(), f"clip{AGAIN}request {n}")[0] for n in range(300))
    assert len(begins) == NUM_REPLICAS - 1
    assert min(begins.values()) > 50


def test_a_further_attempt_of_the_only_replica_begins_there() -> None:
    assert order(router(1), f"clip{AGAIN}request-1") == ["0"]


async def test_a_full_replica_comes_last() -> None:
    ring = router()
    ranked = ring._lookup_ranked_replicas("clip")
    ring._replica_queue_len_cache = {ranked[0]: 30, ranked[1]: 1}
    candidates = [SimpleNamespace(replica_id=each) for each in ranked]
    ring._replicas = {each.replica_id: each for each in candidates}
    pending = SimpleNamespace(
        metadata=SimpleNamespace(session_id="clip"), routing_context=SimpleNamespace()
    )
    ranks = await ring.choose_replicas(candidates, pending)
    assert [rank[0].replica_id for rank in ranks] == [ranked[n] for n in (1, 2, 3, 0)]
