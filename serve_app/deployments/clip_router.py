"""Which replica a request goes to: the one that holds its clip, unless it has more to do than its share.

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016, arXiv:1608.01350): the ring
orders a clip's replicas, and the first one below the bound gets the request. A clip that many ask about
spreads over the next ones on the ring, which then hold it too; the others keep their clips.
"""

import math
import sys
import zlib
from typing import Any

from ray.exceptions import RayTaskError
from ray.serve.config import RequestRouterConfig
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

LOAD_FACTOR = 2.0  # of the mean number of requests per replica
NUM_VIRTUAL_NODES = 400  # of each replica: with Serve's 100 one of four may get 29 % over its share
MIN_ONGOING = 8  # as many run beside each other at next to no cost: no reason to leave the clip
AGAIN = "#"  # in a session id: between the clip's key and what tells a further attempt from others


class ClipRouter(ConsistentHashRouter):  # type: ignore[misc] # Ray is untyped
    """Serve's ring, asked further when the first replica on it has more than its share."""

    def initialize_state(
        self, load_factor: float = LOAD_FACTOR, min_ongoing: int = MIN_ONGOING, **kwargs: Any
    ) -> None:
        """Raises ValueError: a factor that lets no replica have its mean share."""
        if load_factor < 1 or min_ongoing < 1:
            raise ValueError(
                f"load_factor is {load_factor} and min_ongoing {min_ongoing}; both are at least 1"
            )
        super().initialize_state(**{"num_virtual_nodes": NUM_VIRTUAL_NODES, **kwargs})
        self._load_factor, self._min_ongoing = load_factor, min_ongoing

    def update_replicas(self, replicas: list[Any]) -> None:
        """Called by Serve when they have changed."""
        super().update_replicas(replicas)
        self._num_fallback_replicas = max(0, len(replicas) - 1)  # all of them, in the ring's order

    def on_replica_actor_unavailable(self, replica_id: Any) -> None:
        """Called by Serve while it handles an ActorUnavailableError, after which it sends the request again.

        For ever, where the clip's producer is what cannot be reached: the clip has failed by then, and each
        replica fails over it anew. Such an error was raised by a task of the replica, which shows that the
        replica itself is there; it ends the call, and the pipeline asks for the clip again.
        """
        error = sys.exception()
        if isinstance(error, RayTaskError):
            raise error
        super().on_replica_actor_unavailable(replica_id)

    async def choose_replicas(
        self, candidate_replicas: list[Any], pending_request: Any = None
    ) -> list[list[Any]]:
        """Ranks of one replica each: those below the bound in the ring's order, then the others likewise.

        A replica that nothing is known of has nothing to do.
        """
        ranks: list[list[Any]] = await super().choose_replicas(candidate_replicas, pending_request)
        if pending_request is None:
            return ranks
        ongoing = {r.replica_id: self._num_ongoing(r.replica_id) for r in candidate_replicas}
        bound = self._bound(sum(ongoing.values()), len(ongoing))
        return sorted(ranks, key=lambda rank: ongoing.get(rank[0].replica_id, 0) >= bound)

    def _lookup_ranked_replicas(self, routing_key: str) -> list[Any]:
        """In the ring's order. A further attempt begins at any but the first, which has failed it.

        Not at the second: all who lost one replica would go there together, and with them the request
        that may have killed it.
        """
        clip_key, _, attempt = routing_key.partition(AGAIN)
        ranked: list[Any] = super()._lookup_ranked_replicas(clip_key)
        if not attempt or len(ranked) < 2:
            return ranked
        start = 1 + zlib.crc32(attempt.encode()) % (len(ranked) - 1)
        return ranked[start:] + ranked[:start]

    def _num_ongoing(self, replica_id: Any) -> int:
        return int(self.replica_queue_len_cache.get(replica_id) or 0)

    def _bound(self, num_ongoing: int, num_replicas: int) -> int:
        """Requests a replica may have, the one to be placed included."""
        share = self._load_factor * (num_ongoing + 1) / num_replicas
        return max(self._min_ongoing, math.ceil(share))


def clip_affinity(min_ongoing: int = MIN_ONGOING) -> RequestRouterConfig:
    """Configures a deployment: a replica with fewer than `min_ongoing` requests is never skipped."""
    return RequestRouterConfig(
        request_router_class="serve_app.deployments.clip_router:ClipRouter",
        request_router_kwargs={"min_ongoing": min_ongoing},
    )
