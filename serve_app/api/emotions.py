"""POST /v1/emotions: a label and how probable each of the labels is, by the model's own scores."""

from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from serve_app.api.cache_header import add_cache_header
from serve_app.api.clip_body import clip_body
from serve_app.api.clip_question import ClipQuestion, UnicodeText, check_question
from serve_app.api.paths import EMOTIONS
from serve_app.api.reference.answers import EmotionsAnswer
from serve_app.api.reference.clip_forms import clip_body_schema
from serve_app.api.reference.examples import EMOTIONS_ANSWERS, EMOTIONS_FIELDS, EMOTIONS_REQUESTS
from serve_app.api.reference.schemas import answer_schema
from serve_app.api.request_id import current_request_id
from serve_app.api.request_log import current_traceparent, note
from serve_app.api.service import AnswerService
from serve_app.deadline import deadline_in, until
from serve_app.emotions import NINE, WHY_QUESTION, emotion_question, with_sentence
from serve_app.engine.label_trie import MAX_LABELS, MIN_LABELS
from serve_app.settings import AppSettings
from serve_app.types import Answer, AnswerRequest, LabelScores, Sampling, ScoreRequest


class EmotionsRequest(ClipQuestion):
    """A clip, and the labels to choose from."""

    question: UnicodeText = Field(
        default="", description="By default the original's, which lists the labels."
    )
    transcript: UnicodeText | None = Field(
        default=None, description="What the person says; it goes before the question."
    )
    explain: bool = Field(default=False, description="Add what the model says about why.")
    voice: bool = Field(default=False, description="Add statistics of the voice.")
    labels: list[UnicodeText] = Field(
        default=list(NINE),
        min_length=MIN_LABELS,
        max_length=MAX_LABELS,
        description="The labels to choose from.",
    )

    def score_request(self, settings: AppSettings) -> ScoreRequest:
        """The request for the stages, with the server's defaults where it says nothing."""
        return ScoreRequest(
            self.source(),
            with_sentence(self.transcript, self.question or emotion_question(self.labels)),
            tuple(self.labels),
            self.decode_options(settings, self.voice),
            self.prompt_options(settings),
            current_request_id(),
            traceparent=current_traceparent(),
        )

    def reason_request(self, settings: AppSettings) -> AnswerRequest:
        """Why: greedy, so that the same clip gets the same reason."""
        return AnswerRequest(
            self.source(),
            with_sentence(self.transcript, WHY_QUESTION),
            self.decode_options(settings, self.voice),
            Sampling(**{**settings.sampling.model_dump(), "temperature": 0}),
            self.prompt_options(settings),
            current_request_id(),
            traceparent=current_traceparent(),
        )


def create_router(service: AnswerService, settings: AppSettings) -> APIRouter:
    """POST /v1/emotions."""
    router = APIRouter(tags=["emotions"])

    @router.post(
        EMOTIONS,
        summary="Score labels",
        responses=answer_schema(EmotionsAnswer, EMOTIONS_ANSWERS),
        openapi_extra=clip_body_schema(EmotionsRequest, EMOTIONS_REQUESTS, EMOTIONS_FIELDS),
    )
    async def emotions(
        request: Annotated[EmotionsRequest, Depends(clip_body(EmotionsRequest))],
        response: Response,
    ) -> dict[str, Any]:
        """How probable each label is, by the model's own scores, and on request why."""
        for text in (request.question, request.transcript or ""):
            check_question(text, settings.limits)
        limit_s = settings.limits.request_timeout_s
        async with until(deadline_in(limit_s), limit_s):  # both together
            scores = await service.score(request.score_request(settings))
            if not request.explain:
                why = None
            else:
                why = await service.answer(request.reason_request(settings))
        if why is not None:
            scores = _with_costs(scores, why)
        note(scores)
        add_cache_header(response, scores.cache, why.cache if why else None)
        body = emotions_body(scores)
        if why is not None:
            body["explanation"] = why.text
        if request.transcript is not None:
            body["transcript"] = request.transcript
        return body

    return router


def _with_costs(scores: LabelScores, why: Answer) -> LabelScores:
    """What both of them took."""
    times = {**scores.timings_ms, "explanation": why.timings_ms["total"]}
    return replace(scores, usage=scores.usage + why.usage, timings_ms=times)


def emotions_body(scores: LabelScores) -> dict[str, Any]:
    emotion, confidence = max(scores.probabilities.items(), key=lambda item: item[1])
    return {
        "emotion": emotion,
        "confidence": confidence,
        "probabilities": [
            {"label": label, "probability": value} for label, value in scores.probabilities.items()
        ],
        "label_mass": scores.label_mass,
        **({} if scores.voice is None else {"voice": asdict(scores.voice)}),
        "usage": asdict(scores.usage),
        "timings_ms": dict(scores.timings_ms),
        "provenance": dict(scores.provenance),
    }
