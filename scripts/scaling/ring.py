"""Chooses the replica of a request like ClipRouter, with its constants, from a fleet's counts."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.deployments.clip_router import LOAD_FACTOR, MIN_ONGOING, NUM_VIRTUAL_NODES

Ints = NDArray[np.int64]


class Ring:
    """A hash ring of length 1, with NUM_VIRTUAL_NODES random positions for each possible replica."""

    def __init__(self, max_replicas: int, rng: np.random.Generator) -> None:
        places = rng.random(max_replicas * NUM_VIRTUAL_NODES)
        order = np.argsort(places)
        self._all_places, self._all_owners = places[order], order // NUM_VIRTUAL_NODES
        self._ready = np.zeros(max_replicas, np.bool_)
        self.set_ready(~self._ready)

    def set_ready(self, ready: NDArray[np.bool_]) -> None:
        """Sets which replicas are on the ring, as (max_replicas,) booleans."""
        if np.array_equal(ready, self._ready):
            return
        self._ready = ready
        kept = ready[self._all_owners]
        self.places = self._all_places[kept]
        self.owners: list[int] = self._all_owners[kept].tolist()

    def place(self, keys: Any, num_ongoing: Ints, max_ongoing: int) -> tuple[Ints, Ints]:
        """Places requests one by one: each goes to the first replica after its key that is below the bound.

        Some replica is always below the bound, so ClipRouter's second rank (replicas at the bound) is not
        needed here.

        Args:
            keys: position of each request's clip on the ring, (n,); no more than the replicas have room for.
            num_ongoing: ongoing requests of every replica, (max_replicas,).

        Returns:
            Each request's replica, and how many requests that replica had before, both (n,).
        """
        ongoing = num_ongoing.tolist()
        num_replicas, total = int(self._ready.sum()), int(num_ongoing[self._ready].sum())
        owners, size = self.owners, len(self.owners)
        rows, before = [], []
        for point in np.searchsorted(self.places, keys, side="right").tolist():
            bound = max(MIN_ONGOING, math.ceil(LOAD_FACTOR * (total + 1) / num_replicas))
            limit = min(bound, max_ongoing)  # a full replica refuses, and the next one is tried
            row = owners[point % size]
            while ongoing[row] >= limit:
                point += 1
                row = owners[point % size]
            rows.append(row)
            before.append(ongoing[row])
            ongoing[row] += 1
            total += 1
        return np.array(rows, np.int64), np.array(before, np.int64)
