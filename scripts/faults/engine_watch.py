"""Samples every Generator's load many times a second: does one idle while another has too much to do?"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import ray
from ray.serve._private.constants import SERVE_NAMESPACE

PERIOD_S = 0.05
NAME = "SERVE_REPLICA::emotion-llama#Generator#"
MANY = 8  # requests: a fair share of 32 clients' on four engines


@dataclass
class EngineWatch:
    """Samples of the number of requests in each engine."""

    looks: list[list[int]] = field(default_factory=list)

    @property
    def idle_share(self) -> float:
        """Share of samples in which one engine had no request while another had more than MANY."""
        return sum(min(look) == 0 and max(look) > MANY for look in self.looks) / len(self.looks)

    async def look_on(self) -> None:
        """Takes samples until it is cancelled."""
        every = ray.util.list_named_actors(all_namespaces=True)
        names = [each["name"] for each in every if each["name"].startswith(NAME)]
        engines = [ray.get_actor(name, namespace=SERVE_NAMESPACE) for name in names]
        while True:
            calls = [each.get_num_ongoing_requests.remote() for each in engines]
            self.looks.append(list(await asyncio.gather(*calls)))
            await asyncio.sleep(PERIOD_S)


@asynccontextmanager
async def watched_engines() -> AsyncIterator[EngineWatch]:
    """Takes samples while the block runs."""
    watch = EngineWatch()
    looking = asyncio.create_task(watch.look_on())
    try:
        yield watch
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
