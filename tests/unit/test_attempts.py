"""Attempts at a request: which failures are tried again, how often, and beside what."""

import asyncio
from collections import Counter

import pytest

from serve_app.deployments import attempts
from serve_app.deployments.attempts import Attempts
from serve_app.errors import (
    ClipNotFoundError,
    DecoderUnavailableError,
    EngineDeadError,
    EngineGoneError,
    NotReadyError,
    OverloadedError,
    PoisonedRequestError,
    ReplicaDiedError,
    ReplicaLostError,
)
from serve_app.metrics import ATTEMPTS, Metric

DIED, LOST, GONE = ReplicaDiedError("x"), ReplicaLostError("x"), EngineGoneError("x")


class Work:
    """Does the next thing on its list at each attempt: raises an error, waits so many seconds, or answers."""

    def __init__(self, *steps: Exception | float | str) -> None:
        self._steps = list(steps)
        self.numbers: list[int] = []
        self.num_cancelled = 0

    async def __call__(self, number: int) -> str:
        self.numbers.append(number)
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float):
            try:
                await asyncio.sleep(step)
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
            return f"late {number}"
        return step


class Outcomes:
    """A Meter that counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        assert (metric, value) == (ATTEMPTS, 1)
        self.counts[labels["outcome"]] += 1


async def run(work: Work, timeout_s: float = 5, outcomes: Outcomes | None = None) -> str:
    return await Attempts(timeout_s, outcomes or Outcomes()).first_result(work, "r")


@pytest.mark.parametrize("error", [LOST, DIED, EngineDeadError("x")])
async def test_a_lost_replica_costs_one_more_attempt(error: Exception) -> None:
    work, outcomes = Work(error, "answer"), Outcomes()
    assert await run(work, outcomes=outcomes) == "answer"
    assert work.numbers == [0, 1]
    assert outcomes.counts == {"lost": 1}


async def test_two_dead_replicas_are_enough() -> None:
    work, outcomes = Work(DIED, EngineDeadError("y"), "answer"), Outcomes()
    with pytest.raises(PoisonedRequestError):
        await run(work, outcomes=outcomes)
    assert work.numbers == [0, 1]
    assert outcomes.counts == {"lost": 1, "poisoned": 1}


@pytest.mark.parametrize(
    "errors",
    [[GONE] * 4, [LOST] * 4, [DIED, LOST, DIED, LOST]],
    ids=["gone", "lost", "not in a row"],
)
async def test_what_was_lost_without_two_deaths_in_a_row_killed_nobody(
    errors: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.001)
    assert await run(Work(*errors, "answer")) == "answer"


async def test_one_death_counts_once_however_many_attempts_were_inside() -> None:
    engine, replica = EngineDeadError("x"), ReplicaDiedError("x")
    engine.replica_id = replica.replica_id = "a"
    assert await run(Work(engine, replica, GONE, "answer")) == "answer"
    other = ReplicaDiedError("x")
    other.replica_id = "b"
    with pytest.raises(PoisonedRequestError):
        await run(Work(engine, other))


async def test_silence_is_timed_from_the_requests_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "RECHECK_S", 0.05)
    work = Work(60.0, "answer")

    async def lost_at_last(number: int) -> str:
        if number == 0:
            await asyncio.sleep(1)
            raise LOST
        return await work(number)

    async with asyncio.timeout(2):  # 1 s until the loss, and not 1.5 s of patience from there
        assert await Attempts(1.5, Outcomes()).first_result(lost_at_last, "r") == "answer"


async def test_an_engine_that_was_gone_in_between_excuses_nobody() -> None:
    with pytest.raises(PoisonedRequestError):
        await run(Work(DIED, GONE, DIED, "answer"))


async def test_a_refusal_elsewhere_leaves_the_first_attempt_at_work_and_is_asked_again() -> None:
    work = Work(0.5, OverloadedError("full"), 60.0)
    assert await run(work, 0.05) == "late 0"
    assert work.numbers == [0, 1, 2]
    silent = Work(60.0, OverloadedError("full"), NotReadyError("x"), "answer")
    assert await run(silent, 0.05) == "answer"
    with pytest.raises(ClipNotFoundError):  # which is so wherever it is asked
        await run(Work(0.2, ClipNotFoundError("x")), 0.05)


async def test_a_silent_attempt_is_joined_by_another_and_the_first_answer_counts() -> None:
    silent, outcomes = Work(60.0, "answer"), Outcomes()
    assert await run(silent, 0.05, outcomes) == "answer"
    await asyncio.sleep(0)
    assert silent.num_cancelled == 1
    assert outcomes.counts == {"hedged": 1}
    slow = Work(0.2, 60.0)  # it keeps its place in the queue
    assert await run(slow, 0.05) == "late 0"
    await asyncio.sleep(0)
    assert slow.num_cancelled == 1


async def test_there_are_never_three_attempts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "RECHECK_S", 0.02)
    work = Work(0.3, 60.0, "never asked")
    assert await run(work, 0.02) == "late 0"
    assert work.numbers == [0, 1]


async def test_a_second_attempt_that_is_lost_is_replaced_beside_the_first() -> None:
    work = Work(60.0, DIED, LOST, "answer")
    assert await run(work, 0.05) == "answer"
    assert work.numbers == [0, 1, 2, 3]


async def test_the_pause_before_an_attempt_keeps_no_answer_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr(attempts, "LONGEST_PAUSE_S", 60.0)
    work = Work(0.2, DIED, "never asked")
    assert await run(work, 0.05) == "late 0"
    assert work.numbers == [0, 1]


async def test_where_all_are_late_at_most_half_are_asked_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "RECHECK_S", 0.02)
    shared = Attempts(0.05, Outcomes())
    works = [Work(0.4, 60.0) for _ in range(8)]
    answers = await asyncio.gather(*(shared.first_result(work, "r") for work in works))
    assert answers == ["late 0"] * 8
    assert sum(len(work.numbers) == 2 for work in works) == 4
    later = Work(60.0, "answer")  # and none of them counts any more
    assert await shared.first_result(later, "r") == "answer"


async def test_a_second_result_is_discarded() -> None:
    both = asyncio.Event()

    async def attempt(number: int) -> int:
        if number == 1:
            both.set()
        await both.wait()
        return number

    discarded: list[int] = []
    first = await Attempts(0.01, Outcomes()).first_result(attempt, "r", discarded.append)
    await asyncio.sleep(0)
    assert {first, *discarded} == {0, 1}


async def test_a_decoder_that_does_not_start_is_asked_for_elsewhere_once() -> None:
    assert await run(Work(DecoderUnavailableError("x"), "answer")) == "answer"
    with pytest.raises(DecoderUnavailableError):
        await run(Work(DecoderUnavailableError("x"), DecoderUnavailableError("x"), "answer"))


@pytest.mark.parametrize(
    "error", [OverloadedError("full"), NotReadyError("x"), ValueError("a bug"), TimeoutError()]
)
async def test_other_errors_are_final(error: Exception) -> None:
    with pytest.raises(type(error)):
        await run(Work(error, "answer"))


async def test_the_callers_deadline_ends_it_all() -> None:
    work = Work(60.0, 60.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await run(work, timeout_s=0.05)
    await asyncio.sleep(0)
    assert work.num_cancelled == 2


def test_pauses_grow_to_a_limit() -> None:
    longest = [max(attempts._pause_s(number) for _ in range(200)) for number in range(40)]
    assert longest[0] <= attempts.FIRST_PAUSE_S
    assert longest[0] < longest[2] < longest[4]
    assert max(longest) <= attempts.LONGEST_PAUSE_S
