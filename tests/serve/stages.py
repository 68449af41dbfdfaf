"""Stand-ins for the two stages on real Serve: they tell which replica ran, wait, or fail, as they are told.

They fake what a stage computes, never how Serve carries it.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ray.exceptions import ActorUnavailableError

from serve_app.errors import ClipOverLimitError, EngineError, QuestionTooLongError
from serve_app.types import (
    NO_SOURCE,
    Answer,
    AnswerDelta,
    AnswerRequest,
    Clip,
    ClipSource,
    DecodeOptions,
    EngineLoad,
    LabelScores,
    ScoreRequest,
    Usage,
)


class Stage:
    """What both have."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def _is_first(self, name: str) -> bool:
        """Whether no replica was asked for it before."""
        is_first = f"first {name}\n" not in self._log.read_text()
        with self._log.open("a") as file:
            file.write(f"first {name}\n")
        return is_first


class FakePreprocessor(Stage):
    """Notes its pid in the clip. Paths may start with "bad" (fail), "die" or "slow" (a minute).

    "once" dies, "hang" hangs and "out of reach" fails like a call to a lost replica the first time.
    """

    async def decode(
        self, source: ClipSource, options: DecodeOptions, traceparent: str | None
    ) -> Clip:
        path = source.path or ""
        if path.startswith("bad"):
            raise ClipOverLimitError("clip lasts 61.0 s; the limit is 60.0 s")
        if path.startswith("die") or (path.startswith("once") and self._is_first(path)):
            os._exit(1)
        if path.startswith("slow"):
            await wait_a_minute(self._log, "decode")
        if path.startswith("hang") and self._is_first(path):
            await asyncio.sleep(60)
        if path.startswith("out of reach") and self._is_first(path):
            raise ActorUnavailableError("connection refused", None)
        frame = np.zeros((448, 448, 3), np.uint8)
        return Clip(path, frame, 0.0, None, 1.0, notes=(str(os.getpid()),))


class FakeGenerator(Stage):
    """Answers with the pids of both stages. "fail" and "crash" raise, "die" dies, "wait" takes a minute.

    "once" dies and "hang" hangs the first time. The first "warm-up" fails.
    """

    async def answer(self, clip: Clip, request: AnswerRequest) -> Answer:
        question = asked_without_source(request)
        if question == "fail":
            raise QuestionTooLongError("the prompt has 4000 tokens; at most 2048")
        if question == "warm-up" and "warm-up failed" not in self._log.read_text():
            self._log.write_text("warm-up failed")
            raise QuestionTooLongError("the first warm-up fails")
        if question == "crash":
            raise ZeroDivisionError("a bug")
        await self._die_or_hang(question)
        if question == "wait":
            await wait_a_minute(self._log, "answer")
        pids = {"preprocessor": clip.notes[0], "generator": str(os.getpid())}
        timings = {"decode": 1.0, "queue": 0.0, "first_token": 0.0, "total": 0.0}
        return Answer("ok", [], [], "stop", Usage(0, 0, 0), timings, pids)

    async def stream(self, clip: Clip, request: AnswerRequest) -> AsyncIterator[AnswerDelta]:
        """ "fail" raises before the first delta, "break" after it, "wait" takes a minute after it."""
        question = asked_without_source(request)
        if question == "fail":
            raise QuestionTooLongError("the prompt has 4000 tokens; at most 2048")
        await self._die_or_hang(question)
        yield AnswerDelta("o")
        if question == "late death":
            os._exit(1)
        if question == "break":
            raise EngineError("the engine failed")
        if question == "wait":
            await wait_a_minute(self._log, "stream")
        yield AnswerDelta("k", "stop", Usage(1, 2, 0))

    async def score(self, clip: Clip, request: ScoreRequest) -> LabelScores:
        await self._die_or_hang(asked_without_source(request))
        share = 1 / len(request.labels)
        timings = {"decode": 1.0, "total": 0.0}
        return LabelScores(dict.fromkeys(request.labels, share), 1.0, Usage(0, 0, 0), timings)

    async def _die_or_hang(self, question: str) -> None:
        if question == "die" or (question.startswith("once") and self._is_first(question)):
            os._exit(1)
        if question.startswith("hang") and self._is_first(question):
            await asyncio.sleep(60)


class BusyGenerator:
    """Answers so many at a time, each after a while, and tells of its load as an engine does."""

    def __init__(self, max_num_seqs: int, answer_s: float) -> None:
        self._max_num_seqs, self._answer_s = max_num_seqs, answer_s
        self._batch = asyncio.Semaphore(max_num_seqs)
        self._num_inside = self._num_running = 0

    async def answer(self, *asked: object) -> Answer:
        self._num_inside += 1
        try:
            async with self._batch:
                self._num_running += 1
                try:
                    await asyncio.sleep(self._answer_s)
                finally:
                    self._num_running -= 1
        finally:
            self._num_inside -= 1
        timings = {"decode": 1.0, "queue": 0.0, "first_token": 0.0, "total": 0.0}
        return Answer(
            "ok", [], [], "stop", Usage(0, 0, 0), timings, {"generator": str(os.getpid())}
        )

    async def record_autoscaling_stats(self) -> dict[str, float]:
        waiting = self._num_inside - self._num_running
        return asdict(EngineLoad(self._num_running, waiting, 0.1, self._max_num_seqs))


def asked_without_source(request: AnswerRequest | ScoreRequest) -> str:
    """The question. A clip's bytes must not come with it: they went to the other stage."""
    assert request.source == NO_SOURCE, "the source came along"
    return request.question


async def wait_a_minute(log: Path, stage: str) -> None:
    """Write "STAGE started" and, when cancelled, "STAGE cancelled" into the log."""
    with log.open("a") as file:
        file.write(f"{stage} started\n")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        with log.open("a") as file:
            file.write(f"{stage} cancelled\n")
        raise


class Root:
    """Serve deploys a tree; the test calls the two stages below this one."""

    def __init__(self, *stages: object) -> None:
        pass
