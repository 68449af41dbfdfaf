"""Does a request again whose replica was lost: elsewhere, and no more often than is good for the others."""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serve_app.errors import (
    EngineDeadError,
    EngineGoneError,
    PoisonedRequestError,
    ReplicaLostError,
)

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
MAX_LOST = 2  # a request that two replicas in a row did not outlive may well have killed them


async def repeated(
    attempt: Callable[[int], Awaitable[Result]], timeout_s: float, request_id: str
) -> Result:
    """The result of the first attempt that is neither lost nor takes longer than `timeout_s`.

    It goes on until the caller's own deadline cancels it: calls into a machine that is cut off neither end
    nor fail.

    Args:
        attempt: gets its number, from 0. Cancelling it must stop what it started.

    Raises:
        PoisonedRequestError: MAX_LOST replicas died over it. And whatever an attempt raises that is not a
            loss.
    """
    num_lost = 0
    for number in itertools.count():
        try:
            async with asyncio.timeout(timeout_s) as timer:
                return await attempt(number)
        except TimeoutError:
            if not timer.expired():
                raise
            logger.warning("request %s: no answer in %s s, asking again", request_id, timeout_s)
        except EngineGoneError as error:
            logger.warning("request %s: %s, asking again", request_id, error)
        except (ReplicaLostError, EngineDeadError) as error:
            num_lost += 1
            if num_lost == MAX_LOST:
                raise PoisonedRequestError(
                    f"{MAX_LOST} replicas in a row died while they had this request"
                ) from error
            logger.warning("request %s: %s, asking again", request_id, error)
        await asyncio.sleep(_pause_s(number))
    raise AssertionError("itertools.count() does not end")


def _pause_s(number: int) -> float:
    """Longer each time, and not the same for all who lost the same replica."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**number) * random.uniform(0.5, 1.0)
