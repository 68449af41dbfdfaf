"""Stand-ins for the two stages on real Serve: they tell which replica ran, wait, or fail, as they are told.

They fake what a stage computes, never how Serve carries it.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from serve_app.errors import ClipOverLimitError, EngineError, QuestionTooLongError
from serve_app.types import (
    Answer,
    AnswerDelta,
    Clip,
    ClipSource,
    DecodeOptions,
    LabelScores,
    PromptOptions,
    Sampling,
    Turn,
    Usage,
)


class FakePreprocessor:
    """Notes its pid in the clip. Paths may start with "bad" (fail), "die" or "slow" (a minute)."""

    def __init__(self, log: Path) -> None:
        self._log = log

    async def decode(
        self, source: ClipSource, options: DecodeOptions, traceparent: str | None
    ) -> Clip:
        path = source.path or ""
        if path.startswith("bad"):
            raise ClipOverLimitError("clip lasts 61.0 s; the limit is 60.0 s")
        if path.startswith("die"):
            os._exit(1)
        if path.startswith("slow"):
            await wait_a_minute(self._log, "decode")
        frame = np.zeros((448, 448, 3), np.uint8)
        return Clip(path, frame, 0.0, None, 1.0, notes=(str(os.getpid()),))


class FakeGenerator:
    """Answers with the pids of both stages. "fail" and "crash" raise, "wait" takes a minute.

    The first "warm-up" fails.
    """

    def __init__(self, log: Path) -> None:
        self._log = log

    async def answer(
        self,
        clip: Clip,
        question: str,
        sampling: Sampling,
        request_id: str,
        options: PromptOptions,
        history: tuple[Turn, ...],
        traceparent: str | None,
    ) -> Answer:
        if question == "fail":
            raise QuestionTooLongError("the prompt has 4000 tokens; at most 2048")
        if question == "warm-up" and "warm-up failed" not in self._log.read_text():
            self._log.write_text("warm-up failed")
            raise QuestionTooLongError("the first warm-up fails")
        if question == "crash":
            raise ZeroDivisionError("a bug")
        if question == "die":
            os._exit(1)
        if question == "wait":
            await wait_a_minute(self._log, "answer")
        pids = {"preprocessor": clip.notes[0], "generator": str(os.getpid())}
        timings = {"decode": 1.0, "queue": 0.0, "first_token": 0.0, "total": 0.0}
        return Answer("ok", [], [], "stop", Usage(0, 0, 0), timings, pids)

    async def stream(
        self,
        clip: Clip,
        question: str,
        sampling: Sampling,
        request_id: str,
        options: PromptOptions,
        history: tuple[Turn, ...],
        traceparent: str | None,
    ) -> AsyncIterator[AnswerDelta]:
        """ "fail" raises before the first delta, "break" after it, "wait" takes a minute after it."""
        if question == "fail":
            raise QuestionTooLongError("the prompt has 4000 tokens; at most 2048")
        yield AnswerDelta("o")
        if question == "break":
            raise EngineError("the engine failed")
        if question == "wait":
            await wait_a_minute(self._log, "stream")
        yield AnswerDelta("k", "stop", Usage(1, 2, 0))

    async def score(
        self,
        clip: Clip,
        question: str,
        labels: tuple[str, ...],
        request_id: str,
        options: PromptOptions,
        traceparent: str | None,
    ) -> LabelScores:
        return LabelScores(dict.fromkeys(labels, 1 / len(labels)), 1.0, Usage(0, 0, 0), {})


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
