"""One deadline for everything that a request has to wait for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.errors import DeadlineExceededError


def deadline_in(limit_s: float) -> float:
    """The event loop's time so many seconds from now."""
    return asyncio.get_running_loop().time() + limit_s


@asynccontextmanager
async def until(deadline: float, limit_s: float) -> AsyncIterator[None]:
    """Ends its block at that time of the event loop.

    Args:
        limit_s: what the message says: how long the request was given.

    Raises:
        DeadlineExceededError: the time has come. A TimeoutError of the block's own stays one.
    """
    try:
        async with asyncio.timeout_at(deadline) as timer:
            yield
    except TimeoutError:
        if not timer.expired():
            raise
        raise DeadlineExceededError(f"no answer within {limit_s} s") from None
