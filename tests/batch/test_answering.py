"""The engine stage: rows side by side, bad rows as records, and what happens when engines die."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn, cast

import numpy as np
import pytest

from serve_app.batch.answering import MAX_DEATHS, AnsweredUnit, Answering
from serve_app.batch.rows import DecodedUnit, RowRequest
from serve_app.batch.suspect_ledger import SuspectLedger
from serve_app.engine.engine import Engine
from serve_app.errors import EngineDeadError, EngineError, QuestionTooLongError
from serve_app.types import NO_SOURCE, Answer, AnswerRequest, Clip, Usage

CLIP = Clip("sha", np.zeros((2, 2, 3), np.uint8), 0.0, None, 1.0, content_sha256="content")
ERRORS = {
    "long": QuestionTooLongError("too long"),
    "odd": EngineError("odd"),
    "bug": ZeroDivisionError(),
}


class FakeEngine:
    """Answers with the question itself. The question "kill" kills it for good."""

    def __init__(self) -> None:
        self.num_inside = self.most_inside = 0
        self.is_dead = False
        self.asked: list[str] = []

    async def answer(self, clip: Clip, request: AnswerRequest) -> Answer:
        question = request.question
        self.num_inside += 1
        self.most_inside = max(self.most_inside, self.num_inside)
        self.asked.append(question)
        await asyncio.sleep(0.01)
        self.num_inside -= 1
        self.is_dead = self.is_dead or question == "kill"
        if self.is_dead:
            raise EngineDeadError("gone")
        if question in ERRORS:
            raise ERRORS[question]
        return Answer(question, [1], [1], "stop", Usage(1, 1, 0), {"total": 1.0})


class ProcessEnded(BaseException):
    """Stands for the death of the actor's process."""


class Process:
    """An actor's process with its ledger client: once it has died, its calls never return."""

    def __init__(self, kept: SuspectLedger) -> None:
        self.kept = kept
        self.has_died = False

    async def deaths(self, numbers: Sequence[int]) -> list[int]:
        return self.kept.deaths(numbers)

    async def enter(self, numbers: Sequence[int]) -> None:
        await self._live()
        self.kept.enter(numbers)

    async def leave(self, numbers: Sequence[int]) -> None:
        await self._live()
        self.kept.leave(numbers)

    def die(self) -> NoReturn:
        self.has_died = True
        raise ProcessEnded

    async def _live(self) -> None:
        if self.has_died:
            await asyncio.Event().wait()


def unit(questions: Sequence[str], first: int = 0) -> DecodedUnit:
    row_requests = tuple(
        RowRequest(first + number, f"r{first + number}", AnswerRequest(NO_SOURCE, question))
        for number, question in enumerate(questions)
    )
    return DecodedUnit(((CLIP, row_requests),), (), {})


def start(engine: FakeEngine, concurrency: int = 64, process: Process | None = None) -> Answering:
    die = (process or Process(SuspectLedger())).die
    return Answering(cast(Engine, engine), concurrency, process, die)


async def at_once(answering: Answering, units: Sequence[DecodedUnit]) -> list[AnsweredUnit]:
    """Answers units concurrently; cancels the rest when one of them has ended the process."""
    tasks = [asyncio.create_task(answering.answer(each)) for each in units]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def lines_of(answering: Answering, some: DecodedUnit) -> list[dict[str, Any]]:
    return [json.loads(record.line) for record in (await answering.answer(some)).records]


async def test_rows_of_several_units_are_inside_at_once_and_no_more_than_allowed() -> None:
    engine = FakeEngine()
    answering = start(engine, concurrency=6)
    units = [unit(["a"] * 5, first=5 * number) for number in range(4)]
    answered = await asyncio.gather(*map(answering.answer, units))
    assert [len(each.records) for each in answered] == [5, 5, 5, 5]
    assert engine.most_inside == 6


async def test_a_bad_row_is_a_record_with_its_error_and_the_others_are_answered() -> None:
    lines = await lines_of(start(FakeEngine()), unit(["a", "long", "odd", "bug", "b"]))
    assert [line["text"] for line in lines] == ["a", None, None, None, "b"]
    codes = [line["error"] and line["error"]["code"] for line in lines]
    assert codes == [None, "question_too_long", "engine_error", "internal_error", None]


async def test_a_dead_engine_is_no_rows_error() -> None:
    with pytest.raises(ProcessEnded):
        await start(FakeEngine()).answer(unit(["a", "kill"]))


async def test_a_row_that_kills_every_engine_becomes_an_error_and_costs_no_other_row() -> None:
    kept = SuspectLedger()
    units = [unit(["a", "kill", "b"]), unit(["c", "d"], first=3)]
    num_deaths = 0
    lines: list[dict[str, Any]] = []
    while not lines:
        try:
            # An actor uses no ledger with its first engine.
            answering = start(FakeEngine(), process=Process(kept) if num_deaths else None)
            answered = await at_once(answering, units)
            lines = [json.loads(each.line) for some in answered for each in some.records]
        except ProcessEnded:
            num_deaths += 1
        assert num_deaths <= 10, "the row is never given up"
    by_id = {line["id"]: line for line in lines}
    assert len(by_id) == len(lines) == 5
    assert by_id["r1"]["error"]["code"] == "engine_dead"
    assert "engines died over this row" in by_id["r1"]["error"]["message"]
    answers = {name: line["text"] for name, line in by_id.items()}
    assert answers == {"r0": "a", "r1": None, "r2": "b", "r3": "c", "r4": "d"}
    assert num_deaths == MAX_DEATHS + 1


async def test_after_a_death_rows_that_were_inside_go_in_one_at_a_time() -> None:
    process = Process(SuspectLedger())
    await process.enter(range(8))
    engine = FakeEngine()
    lines = await lines_of(start(engine, process=process), unit(["a"] * 8))
    assert [line["text"] for line in lines] == ["a"] * 8
    assert engine.most_inside == 1
    assert process.kept.deaths(range(8)) == [0] * 8
    await lines_of(start(engine, process=process), unit(["a"] * 8))
    assert engine.most_inside > 1, "a row that has left an engine is not a suspect"


async def test_records_of_the_decode_stage_pass_through() -> None:
    from serve_app.batch.records import error_record
    from serve_app.errors import ClipNotFoundError

    refused = error_record(7, "r7", ClipNotFoundError("no file"), is_openai=False)
    answered = await start(FakeEngine()).answer(replace(unit(["a"]), done=(refused,)))
    assert [record.number for record in answered.records] == [7, 0]
    assert any(name.startswith("engine") for name in answered.busy)
