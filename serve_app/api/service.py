"""What the routes need from whatever answers behind them."""

from collections.abc import AsyncGenerator
from typing import Protocol

from serve_app.types import Answer, AnswerDelta, AnswerRequest, LabelScores, ScoreRequest


class AnswerService(Protocol):
    """Answers questions about clips: deployments.pipeline.ServePipeline, or a stand-in in a test."""

    @property
    def is_ready(self) -> bool:
        """True once a warm-up request went through every stage."""

    async def warm_up(self) -> None:
        """Sends one request through every stage; `is_ready` afterwards."""

    async def answer(self, request: AnswerRequest) -> Answer:
        """Raises a `ServeAppError`; cancelling the caller cancels every stage."""

    def stream(self, request: AnswerRequest) -> AsyncGenerator[AnswerDelta, None]:
        """Like `answer`, in pieces as they come. Closing it stops every stage."""

    async def score(self, request: ScoreRequest) -> LabelScores:
        """Like `answer`, but each label's probability."""
