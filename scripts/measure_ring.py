"""How evenly Serve's consistent-hash ring alone shares clips out among four replicas, by its virtual nodes.

The largest replica's part of the ring beyond its share, over 200 sets of replicas with random names.
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
RING = 1 << 64  # the hashes are below it


def excess(num_virtual_nodes: int, random: Random) -> float:
    """0.3: one replica has 30 % more than its share."""
    deployment = DeploymentID("Generator", "emotion-llama")
    router = object.__new__(ConsistentHashRouter)
    router._deployment_id, router._num_virtual_nodes = deployment, num_virtual_nodes
    names = (f"{random.getrandbits(32):08x}" for _ in range(NUM_REPLICAS))
    router._rebuild_ring(frozenset(ReplicaID(name, deployment) for name in names))
    ends: list[int] = router._ring_hashes
    parts: dict[str, int] = {}
    # A node takes what lies between the one before it and itself.
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
