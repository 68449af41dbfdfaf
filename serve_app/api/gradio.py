"""POST /api/predict and /run/predict: what Gradio 4.44.1 answered for the original's page, without Gradio."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, Field

from serve_app.api.cache_header import add_cache_header
from serve_app.api.clip_body import from_fields
from serve_app.api.clip_question import CLIP_SCHEMA, check_question
from serve_app.api.gradio_body import predict_body
from serve_app.api.paths import PREDICT
from serve_app.api.process_video import ProcessVideoRequest
from serve_app.api.reference.answers import PredictAnswer
from serve_app.api.reference.examples import PREDICT_ANSWERS, PREDICT_REQUESTS, named
from serve_app.api.reference.schemas import answer_schema
from serve_app.api.request_log import note
from serve_app.api.service import AnswerService
from serve_app.settings import AppSettings

NUM_INPUTS = 2  # path and question


class PredictRequest(BaseModel):
    """The body of Gradio's requests. Its other fields are about sessions, which this server does not keep."""

    data: list[Any] = Field(
        description="The clip's path and the question; further items are ignored.",
        json_schema_extra={
            "prefixItems": [CLIP_SCHEMA, {"type": "string"}],
            "minItems": NUM_INPUTS,
        },
    )

    def question(self) -> ProcessVideoRequest:
        """The body as a ProcessVideoRequest.

        Raises:
            RequestValidationError: an input is missing or of the wrong type.
        """
        path, question = (*self.data[:NUM_INPUTS], None, None)[:NUM_INPUTS]
        return from_fields(
            ProcessVideoRequest, {"video_path": path, "question": question}, ("body", "data")
        )


class Durations:
    """Mean duration of the calls in this process, as Gradio reports it."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._num_runs = 0

    def add(self, duration_s: float) -> float:
        """Record one call; returns the mean of all calls so far."""
        self._total_s += duration_s
        self._num_runs += 1
        return self._total_s / self._num_runs


def create_router(service: AnswerService, settings: AppSettings) -> APIRouter:
    """POST /api/predict and /run/predict, each with and without a trailing slash."""
    router = APIRouter(tags=["clip questions"])
    durations = Durations()

    async def predict(
        request: Annotated[PredictRequest, Body(openapi_examples=named(PREDICT_REQUESTS))],
        response: Response,
    ) -> dict[str, Any]:
        """For clients of the original's Gradio page. Also at /run/predict, and both with a trailing slash."""
        started = time.perf_counter()
        question = request.question()
        check_question(question.question, settings.limits)
        answer = await service.answer(question.answer_request(settings))
        note(answer)
        add_cache_header(response, answer.cache)
        duration_s = time.perf_counter() - started
        return predict_body(answer.text, duration_s, durations.add(duration_s))

    for path in PREDICT:
        router.add_api_route(
            path,
            predict,
            methods=["POST"],
            include_in_schema=path == PREDICT[0],
            summary="Ask a question as Gradio's clients do",
            responses=answer_schema(PredictAnswer, PREDICT_ANSWERS),
        )
    return router
