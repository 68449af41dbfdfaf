"""POST /process_video, the route of the original's API guide."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, field_validator

from serve_app.api.service import AnswerService
from serve_app.errors import InvalidRequestError
from serve_app.settings import AppSettings, LimitSettings, SamplingSettings
from serve_app.types import (
    AnswerRequest,
    AudioMode,
    ClipSource,
    DecodeOptions,
    Features,
    LayoutName,
    Parity,
    PromptOptions,
    Sampling,
    Tokenization,
)

FrameTime = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
FeatureName = Literal["face_feature", "temporal_feature", "audio_feature"]
Feature = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]

# How the original's evaluation script samples (eval_emotion.py), whatever its API does.
EVALUATION_SAMPLING = SamplingSettings(temperature=0, repetition_penalty=1)


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
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100)
    max_tokens: int | None = Field(default=None, gt=0)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    parity: Parity | None = Field(default=None, description="In place of the server's setting.")
    layout: LayoutName | None = None
    tokenization: Tokenization | None = None
    audio_mode: AudioMode | None = Field(
        default=None, description="By default the one that belongs to `parity`."
    )
    features: dict[FeatureName, Feature] = Field(
        default={}, description="Ready features, in place of what the server would compute or zero."
    )
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

    def answer_request(self, settings: AppSettings) -> AnswerRequest:
        """The request for the stages, with the server's defaults where it says nothing."""
        prompt = PromptOptions(
            layout=self.layout or settings.layout,
            tokenization=self.tokenization or settings.tokenization,
            parity=self.parity or settings.parity,
        )
        is_reference = prompt.parity == "reference"
        audio_mode = self.audio_mode or ("reference" if is_reference else "clean")
        defaults = settings.sampling
        if is_reference and prompt.layout != "chat":
            defaults = EVALUATION_SAMPLING
        chosen = self.model_dump(include=set(SamplingSettings.model_fields), exclude_none=True)
        features: Features = {
            name: np.array(values, np.float32) for name, values in self.features.items()
        }
        return AnswerRequest(
            ClipSource(path=self.video_path, features=features),
            self.question,
            DecodeOptions(self.frame, self.voice, audio_mode),
            Sampling(**{**defaults.model_dump(), **chosen}, seed=self.seed),
            prompt,
        )


def check_question(question: str, limits: LimitSettings) -> None:
    """Raises InvalidRequestError: encoding a text of any length would hold the server up."""
    limit = limits.max_question_chars
    if len(question) > limit:
        raise InvalidRequestError(f"question has {len(question)} characters; the limit is {limit}")


def create_router(service: AnswerService, settings: AppSettings) -> APIRouter:
    """POST /process_video."""
    router = APIRouter(tags=["legacy"])

    @router.post("/process_video")
    async def process_video(request: ProcessVideoRequest) -> dict[str, Any]:
        check_question(request.question, settings.limits)
        answer = await service.answer(request.answer_request(settings))
        body: dict[str, Any] = {"response": answer.text}
        if answer.voice is not None:
            body["voice"] = asdict(answer.voice)
        if request.details:
            body["details"] = asdict(answer)
        return body

    return router
