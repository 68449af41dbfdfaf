"""One actor counts the requests of all ingress replicas."""

import asyncio
from typing import Any

import ray

from serve_app.rate_limits import Allowance, MemoryCounter

NAME, NAMESPACE = "emotion-llama-rate-counter", "serve"
TIMEOUT_S = 1.0


class SharedCounter:
    """A RateCounter. Where the actor does not answer, each replica counts for itself."""

    def __init__(self) -> None:
        self._lookup: asyncio.Task[Any] | None = None
        self._own = MemoryCounter()

    async def take(self, who: str, rate: str) -> Allowance:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                actor = await self._actor()
                allowance: Allowance = await actor.take.remote(who, rate)
                return allowance
        except (ray.exceptions.RayError, TimeoutError, ValueError):
            if self._lookup is not None and self._lookup.done():
                self._lookup = None  # looked up again the next time
            return await self._own.take(who, rate)

    async def _actor(self) -> Any:
        """One look-up at a time: without the cluster's head it keeps its thread for a minute."""
        if self._lookup is None:
            self._lookup = asyncio.create_task(asyncio.to_thread(_get_actor))
        return await asyncio.shield(self._lookup)


def _get_actor() -> Any:
    """Any replica may start it; it lives as long as the cluster does."""
    return (
        ray.remote(MemoryCounter)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
        )
        .remote()
    )
