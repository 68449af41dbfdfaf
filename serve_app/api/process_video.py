"""POST /process_video, the route of the original's API guide."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from serve_app.api.cache_header import add_cache_header
from serve_app.api.clip_body import clip_body
from serve_app.api.clip_question import ClipQuestion, Count, PositiveCount, Seed, check_question
from serve_app.api.paths import PROCESS_VIDEO
from serve_app.api.reference.answers import ProcessVideoAnswer
from serve_app.api.reference.clip_forms import clip_body_schema
from serve_app.api.reference.examples import (
    PROCESS_VIDEO_ANSWERS,
    PROCESS_VIDEO_FIELDS,
    PROCESS_VIDEO_REQUESTS,
)
from serve_app.api.reference.schemas import answer_schema
from serve_app.api.request_id import current_request_id
from serve_app.api.request_log import current_traceparent, note
from serve_app.api.service import AnswerService
from serve_app.settings import AppSettings, RepetitionPenalty, SamplingSettings, Temperature, TopP
from serve_app.types import AnswerRequest, Sampling

# Sampling of the original's evaluation script (eval_emotion.py), which differs from its API.
EVALUATION_SAMPLING = SamplingSettings(temperature=0, repetition_penalty=1)


class ProcessVideoRequest(ClipQuestion):
    """The two fields of the original's guide, and the options of this server."""

    voice: bool = Field(default=False, description="Add statistics of the voice to the answer.")
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: Count | None = None
    repetition_penalty: RepetitionPenalty | None = None
    max_tokens: PositiveCount | None = None
    seed: Seed | None = None
    details: bool = Field(default=False, description="Add token ids, timings and provenance.")

    def answer_request(self, settings: AppSettings) -> AnswerRequest:
        """The request for the stages, with the server's defaults for what the body leaves out."""
        prompt = self.prompt_options(settings)
        defaults = settings.sampling
        if prompt.parity == "reference" and prompt.layout != "chat":
            defaults = EVALUATION_SAMPLING
        chosen = self.model_dump(include=set(SamplingSettings.model_fields), exclude_none=True)
        return AnswerRequest(
            self.source(),
            self.question,
            self.decode_options(settings, self.voice),
            Sampling(**{**defaults.model_dump(), **chosen}, seed=self.seed),
            prompt,
            current_request_id(),
            traceparent=current_traceparent(),
        )


def create_router(service: AnswerService, settings: AppSettings) -> APIRouter:
    """POST /process_video."""
    router = APIRouter(tags=["clip questions"])

    @router.post(
        PROCESS_VIDEO,
        summary="Ask a question about a clip",
        responses=answer_schema(ProcessVideoAnswer, PROCESS_VIDEO_ANSWERS),
        openapi_extra=clip_body_schema(
            ProcessVideoRequest, PROCESS_VIDEO_REQUESTS, PROCESS_VIDEO_FIELDS
        ),
    )
    async def process_video(
        request: Annotated[ProcessVideoRequest, Depends(clip_body(ProcessVideoRequest))],
        response: Response,
    ) -> dict[str, Any]:
        """The route of the original's API guide. The answer has only the fields that were asked for."""
        check_question(request.question, settings.limits)
        answer = await service.answer(request.answer_request(settings))
        note(answer)
        add_cache_header(response, answer.cache)
        body: dict[str, Any] = {"response": answer.text}
        if answer.voice is not None:
            body["voice"] = asdict(answer.voice)
        if request.details:
            body["details"] = asdict(answer)
        return body

    return router
