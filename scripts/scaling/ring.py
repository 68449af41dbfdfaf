"""Which replica a request goes to: what ClipRouter does, with its own constants, on a fleet's counts."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.deployments.clip_router import LOAD_FACTOR, MIN_ONGOING, NUM_VIRTUAL_NODES

Ints = NDArray[np.int64]


class Ring:
    """A circle of length 1, with NUM_VIRTUAL_NODES random places of each replica that there may be."""

    def __init__(self, max_replicas: int, rng: np.random.Generator) -> None:
        places = rng.random(max_replicas * NUM_VIRTUAL_NODES)
        order = np.argsort(places)
        self._all_places, self._all_owners = places[order], order // NUM_VIRTUAL_NODES
        self._ready = np.zeros(max_replicas, np.bool_)
        self.set_ready(~self._ready)

    def set_ready(self, ready: NDArray[np.bool_]) -> None:
        """Which replicas it has, as (max_replicas,) truths."""
        if np.array_equal(ready, self._ready):
            return
        self._ready = ready
        kept = ready[self._all_owners]
        self.places = self._all_places[kept]
        self.owners: list[int] = self._all_owners[kept].tolist()

    def place(self, keys: Any, num_ongoing: Ints, max_ongoing: int) -> tuple[Ints, Ints]:
        """One request after the other: to the first replica from its key on that is below the bound.

        The bound is never below the emptiest replica, so that ClipRouter's second rank, of those at the
        bound, is nobody's here.

        Args:
            keys: where on the circle each request's clip is, (n,), for no more than have room.
            num_ongoing: of every replica, (max_replicas,).

        Returns:
            Each request's replica, and what that one had before, both (n,).
        """
        ongoing = num_ongoing.tolist()
        num_replicas, total = int(self._ready.sum()), int(num_ongoing[self._ready].sum())
        owners, size = self.owners, len(self.owners)
        rows, before = [], []
        for point in np.searchsorted(self.places, keys, side="right").tolist():
            bound = max(MIN_ONGOING, math.ceil(LOAD_FACTOR * (total + 1) / num_replicas))
            limit = min(bound, max_ongoing)  # a full replica refuses, and the next one is asked
            row = owners[point % size]
            while ongoing[row] >= limit:
                point += 1
                row = owners[point % size]
            rows.append(row)
            before.append(ongoing[row])
            ongoing[row] += 1
            total += 1
        return np.array(rows, np.int64), np.array(before, np.int64)
