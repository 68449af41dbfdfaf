"""POST /process_video, the route of the original's API guide."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, field_validator

from serve_app.api.service import AnswerService
from serve_app.errors import InvalidRequestError
from serve_app.settings import AppSettings, SamplingSettings
from serve_app.types import AnswerRequest, ClipSource, DecodeOptions, Sampling

FrameTime = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ProcessVideoRequest(BaseModel):
    """The two documented fields, and what else may be chosen. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    video_path: str = Field(description="A path on the server, inside its allowed roots.")
    question: str
    frame: Literal["first", "middle", "sharpest"] | FrameTime = "first"
    voice: bool = Field(default=False, description="Add statistics of the voice to the answer.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, gt=0)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    details: bool = Field(default=False, description="Add token ids, timings and provenance.")

    @field_validator("video_path", "question")
    @classmethod
    def _is_text(cls, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"not valid Unicode: {error.reason}") from error
        return value

    @field_validator("video_path")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError("must be an absolute path")
        return value

    def answer_request(self, defaults: SamplingSettings) -> AnswerRequest:
        """The request for the stages, with the server's sampling defaults where it says nothing."""
        chosen = self.model_dump(
            include={"temperature", "top_p", "top_k", "max_tokens"}, exclude_none=True
        )
        return AnswerRequest(
            ClipSource(path=self.video_path),
            self.question,
            DecodeOptions(self.frame, self.voice),
            Sampling(**{**defaults.model_dump(), **chosen}, seed=self.seed),
        )


def create_router(service: AnswerService, settings: AppSettings) -> APIRouter:
    """POST /process_video."""
    router = APIRouter(tags=["legacy"])

    @router.post("/process_video")
    async def process_video(request: ProcessVideoRequest) -> dict[str, Any]:
        limit = settings.limits.max_question_chars
        if len(request.question) > limit:
            raise InvalidRequestError(
                f"question has {len(request.question)} characters; the limit is {limit}"
            )
        answer = await service.answer(request.answer_request(settings.sampling))
        body: dict[str, Any] = {"response": answer.text}
        if answer.voice is not None:
            body["voice"] = asdict(answer.voice)
        if request.details:
            body["details"] = asdict(answer)
        return body

    return router
