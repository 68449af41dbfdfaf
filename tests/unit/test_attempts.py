"""Attempts at a request: which failures are tried again, how often, and for how long."""

import asyncio
from collections.abc import Callable

import pytest

from serve_app.deployments import attempts
from serve_app.deployments.attempts import repeated
from serve_app.errors import (
    EngineDeadError,
    EngineGoneError,
    OverloadedError,
    PoisonedRequestError,
    ReplicaLostError,
)


class Work:
    """Does the next thing on its list at each attempt: raises an error, waits so many seconds, or answers."""

    def __init__(self, *steps: Exception | float | str) -> None:
        self._steps = list(steps)
        self.numbers: list[int] = []

    async def __call__(self, number: int) -> str:
        self.numbers.append(number)
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float):
            await asyncio.sleep(step)
            return "late"
        return step


async def run(work: Callable[[int], object], timeout_s: float = 5) -> str:
    return await repeated(work, timeout_s, "r")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ReplicaLostError("x"), EngineDeadError("x")])
async def test_a_lost_replica_costs_one_more_attempt(error: Exception) -> None:
    work = Work(error, "answer")
    assert await run(work) == "answer"
    assert work.numbers == [0, 1]


async def test_two_lost_replicas_are_enough() -> None:
    work = Work(ReplicaLostError("x"), EngineDeadError("y"), "answer")
    with pytest.raises(PoisonedRequestError):
        await run(work)
    assert work.numbers == [0, 1]


async def test_an_engine_that_was_dead_before_was_not_killed_by_this_request() -> None:
    work = Work(*[EngineGoneError("x")] * 4, "answer")
    assert await run(work) == "answer"


async def test_an_attempt_that_hangs_is_left() -> None:
    work = Work(60.0, 60.0, 60.0, "answer")
    assert await run(work, timeout_s=0.05) == "answer"
    assert work.numbers == [0, 1, 2, 3]  # nobody died: it may go on until the deadline


@pytest.mark.parametrize("error", [OverloadedError("full"), ValueError("a bug"), TimeoutError()])
async def test_other_errors_are_final(error: Exception) -> None:
    work = Work(error, "answer")
    with pytest.raises(type(error)):
        await run(work)


async def test_the_callers_deadline_ends_it_all() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await run(Work(*[60.0] * 100), timeout_s=0.05)


def test_pauses_grow_to_a_limit() -> None:
    longest = [max(attempts._pause_s(number) for _ in range(200)) for number in range(40)]
    assert longest[0] <= attempts.FIRST_PAUSE_S
    assert longest[0] < longest[2] < longest[4]
    assert max(longest) <= attempts.LONGEST_PAUSE_S
