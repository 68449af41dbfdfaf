"""POST /v1/chat/completions: OpenAI's chat about one clip, whole or streamed."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from serve_app.api.cache_header import add_cache_header
from serve_app.api.openai.objects import completion, completion_head
from serve_app.api.openai.request import answer_request
from serve_app.api.openai.schema import ChatRequest
from serve_app.api.openai.stream import answer_deltas, events
from serve_app.api.paths import CHAT, MODELS
from serve_app.api.reference.chat_answers import EVENT_STREAM, SSE, Completion, ModelList
from serve_app.api.reference.examples import CHAT_ANSWERS, CHAT_REQUESTS, MODELS_ANSWERS, named
from serve_app.api.reference.schemas import answer_schema
from serve_app.api.request_log import note, note_cache
from serve_app.api.service import AnswerService
from serve_app.settings import AppSettings


def create_router(service: AnswerService, settings: AppSettings) -> APIRouter:
    """POST /v1/chat/completions and GET /v1/models."""
    router = APIRouter(tags=["openai"])
    started = int(time.time())

    @router.post(
        CHAT,
        summary="Chat about a clip",
        response_model=None,
        responses=answer_schema(Completion, CHAT_ANSWERS, EVENT_STREAM),
    )
    async def chat_completions(
        body: Annotated[ChatRequest, Body(openapi_examples=named(CHAT_REQUESTS))],
        response: Response,
    ) -> dict[str, Any] | Response:
        """OpenAI's chat: one clip, user and assistant in turn, the user last. With `stream`, as events."""
        asked = answer_request(body, settings)
        if not body.stream:
            answer = await service.answer(asked)
            note(answer)
            add_cache_header(response, answer.cache)
            return completion(body.model, answer)
        head = completion_head(body.model)
        deltas = answer_deltas(service, asked)
        # Wait for the first delta: an error before it can still be answered with its own status.
        first = await anext(deltas)
        note_cache(first.cache)
        streamed = StreamingResponse(events(first, deltas, head, body), media_type=SSE)
        add_cache_header(streamed, first.cache)
        return streamed

    @router.get(
        MODELS,
        summary="The one model there is",
        responses=answer_schema(ModelList, MODELS_ANSWERS),
    )
    async def models() -> dict[str, Any]:
        """Lists the served model, by the name that `model` of a chat must have."""
        model = {
            "id": settings.model_name,
            "object": "model",
            "created": started,
            "owned_by": "emotion-llama",
            "max_model_len": settings.engine.max_model_len,
        }
        return {"object": "list", "data": [model]}

    return router
