"""Requests per key or address and time: counted in one place, so that all replicas share a limit."""

import math
import time
from dataclasses import dataclass
from typing import Protocol

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter


@dataclass(frozen=True, slots=True)
class Allowance:
    """What became of one request."""

    is_allowed: bool
    limit: int  # requests
    remaining: int
    window_s: int
    reset_s: int  # until the window ends
    rate: str  # in words


class RateCounter(Protocol):
    """Counts in this process, or asks an actor that counts for all."""

    async def take(self, who: str, rate: str) -> Allowance:
        """Counts one request of `who`. `rate`: one of settings.Rate."""


class MemoryCounter:
    """Counts in this process."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def take(self, who: str, rate: str) -> Allowance:
        item = parse(rate)
        is_allowed = self._limiter.hit(item, who)
        stats = self._limiter.get_window_stats(item, who)
        return Allowance(
            is_allowed=is_allowed,
            limit=item.amount,
            remaining=stats.remaining,
            window_s=item.get_expiry(),
            reset_s=max(0, math.ceil(stats.reset_time - time.time())),
            rate=str(item),
        )
