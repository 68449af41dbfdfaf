"""Rate limits per key or address, counted in one place so that all replicas share them."""

import math
import time
from dataclasses import dataclass
from typing import Protocol

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter


@dataclass(frozen=True, slots=True)
class Allowance:
    """The decision about one request, and the state of its limit."""

    is_allowed: bool
    limit: int  # requests
    remaining: int
    window_s: int
    reset_s: int  # until the window ends
    rate: str  # for messages, such as "10 per 1 minute"


class RateCounter(Protocol):
    """Counts requests, in this process or through an actor that counts for all replicas."""

    async def take(self, who: str, rate: str) -> Allowance:
        """Count one request of `who` against `rate`, which is a settings.Rate."""


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
