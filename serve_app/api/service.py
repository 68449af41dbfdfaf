"""What the routes need from whatever answers behind them."""

from collections.abc import AsyncGenerator
from typing import Protocol

from serve_app.types import Answer, AnswerDelta, AnswerRequest, LabelScores, ScoreRequest


class AnswerService(Protocol):
    """Answers questions about clips: the Serve graph in production, a local engine without it."""

    @property
    def is_ready(self) -> bool:
        """True once a warm-up request went through every stage."""

    async def warm_up(self) -> None:
        """Send one request through every stage; `is_ready` afterwards."""

    async def answer(self, request: AnswerRequest) -> Answer:
        """Raises a `ServeAppError`; cancelling the caller cancels every stage."""

    def stream(self, request: AnswerRequest) -> AsyncGenerator[AnswerDelta, None]:
        """The same as it grows. Closing it stops every stage."""

    async def score(self, request: ScoreRequest) -> LabelScores:
        """The same of each label's probability."""
