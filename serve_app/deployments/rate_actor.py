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
        self._actor: Any = None
        self._own = MemoryCounter()

    async def take(self, who: str, rate: str) -> Allowance:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._actor is None:
                    self._actor = await asyncio.to_thread(_get_actor)
                allowance: Allowance = await self._actor.take.remote(who, rate)
                return allowance
        except (ray.exceptions.RayError, TimeoutError, ValueError):
            self._actor = None  # looked up again the next time
            return await self._own.take(who, rate)


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
