"""Measures how evenly Serve's consistent-hash ring distributes clips over four replicas, by virtual nodes.

Prints how much the largest part of the ring exceeds a fair share, over 200 sets of randomly named replicas.
"""

import logging
import statistics
import sys
from itertools import pairwise
from random import Random

from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

NUM_REPLICAS = 4
NUM_SETS = 200
RING = 1 << 64  # hashes are below this


def excess(num_virtual_nodes: int, random: Random) -> float:
    """How much the largest replica has above its fair share: 0.3 is 30 % more."""
    deployment = DeploymentID("Generator", "emotion-llama")
    router = object.__new__(ConsistentHashRouter)
    router._deployment_id, router._num_virtual_nodes = deployment, num_virtual_nodes
    names = (f"{random.getrandbits(32):08x}" for _ in range(NUM_REPLICAS))
    router._rebuild_ring(frozenset(ReplicaID(name, deployment) for name in names))
    ends: list[int] = router._ring_hashes
    parts: dict[str, int] = {}
    # A node owns the arc from the node before it up to itself.
    arcs = pairwise([ends[-1] - RING, *ends])
    for (start, end), replica in zip(arcs, router._ring_replicas, strict=True):
        parts[replica.unique_id] = parts.get(replica.unique_id, 0) + end - start
    return max(parts.values()) * NUM_REPLICAS / RING - 1


def main() -> int:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    for num_virtual_nodes in (100, 400):
        random = Random(0)
        found = [excess(num_virtual_nodes, random) for _ in range(NUM_SETS)]
        print(
            f"{num_virtual_nodes} virtual nodes: median {statistics.median(found):.0%}, "
            f"at most {max(found):.0%} more than a share"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
