"""POST /v1/chat/completions: OpenAI's chat about one clip, at once or as it grows."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from serve_app.api.cache_header import add_cache_header
from serve_app.api.clip_question import check_question
from serve_app.api.errors import openai_error, unexpected
from serve_app.api.examples import CHAT_ANSWERS, CHAT_REQUESTS, MODELS_ANSWERS, named
from serve_app.api.openai.conversation import read_conversation
from serve_app.api.openai.responses import EVENT_STREAM, SSE, Completion, ModelList
from serve_app.api.openai.schema import ChatRequest
from serve_app.api.paths import CHAT, MODELS
from serve_app.api.request_id import current_request_id
from serve_app.api.request_log import current_traceparent, note, note_cache, note_error, note_usage
from serve_app.api.responses import answer_schema
from serve_app.api.service import AnswerService
from serve_app.errors import InvalidRequestError, ModelNotFoundError, ServeAppError
from serve_app.settings import AppSettings
from serve_app.types import (
    Answer,
    AnswerDelta,
    AnswerRequest,
    DecodeOptions,
    PromptOptions,
    Sampling,
    TokenScore,
    Usage,
)

DONE = "data: [DONE]\n\n"


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
        head = _head(body.model)
        deltas = _deltas(service, asked)
        # The first one decides: an error before it still has a status.
        first = await anext(deltas)
        note_cache(first.cache)
        events = _events(first, deltas, head, body)
        streamed = StreamingResponse(events, media_type=SSE)
        add_cache_header(streamed, first.cache)
        return streamed

    @router.get(
        MODELS,
        summary="The one model there is",
        responses=answer_schema(ModelList, MODELS_ANSWERS),
    )
    async def models() -> dict[str, Any]:
        """Under the name that a chat's `model` must have."""
        model = {
            "id": settings.model_name,
            "object": "model",
            "created": started,
            "owned_by": "emotion-llama",
            "max_model_len": settings.engine.max_model_len,
        }
        return {"object": "list", "data": [model]}

    return router


def answer_request(body: ChatRequest, settings: AppSettings) -> AnswerRequest:
    """Raises ModelNotFoundError; InvalidRequestError: the messages, or two fields that contradict."""
    if body.model != settings.model_name:
        raise ModelNotFoundError(f"model {body.model!r}; this server has {settings.model_name!r}")
    conversation = read_conversation(body.messages)
    history = "".join(turn.question + turn.answer for turn in conversation.history)
    check_question(conversation.question + history, settings.limits)
    if body.max_tokens and body.max_completion_tokens:
        raise InvalidRequestError("max_tokens and max_completion_tokens: one of the two")
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs: true")
    if body.stream_options and not body.stream:
        raise InvalidRequestError("stream_options needs stream: true")
    chosen = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "repetition_penalty": body.repetition_penalty,
        "max_tokens": body.max_completion_tokens or body.max_tokens,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    is_reference = settings.parity == "reference"
    return AnswerRequest(
        conversation.source,
        conversation.question,
        DecodeOptions(body.frame, audio_mode="reference" if is_reference else "clean"),
        Sampling(
            **{**settings.sampling.model_dump(), **given},
            seed=body.seed,
            stop=_stop(body),
            constraint=_constraint(body),
            num_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
        PromptOptions(settings.layout, settings.tokenization, settings.parity),
        current_request_id(),
        conversation.history,
        current_traceparent(),
    )


def completion(model: str, answer: Answer) -> dict[str, Any]:
    """OpenAI's object for a whole answer; `model` as the client named it."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "logprobs": _logprobs(answer.scores),
        "finish_reason": answer.finish_reason,
    }
    usage = _usage(answer.usage)
    return {**_head(model), "object": "chat.completion", "choices": [choice], "usage": usage}


def _stop(body: ChatRequest) -> tuple[str, ...]:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stop) > 4 or not all(stop):
        raise InvalidRequestError(f"stop has {len(stop)} texts; at most 4, none of them empty")
    return tuple(stop)


def _constraint(body: ChatRequest) -> dict[str, Any] | None:
    given: dict[str, Any] = {}
    if body.structured_outputs:
        dumped = body.structured_outputs.model_dump(by_alias=True, exclude_none=True)
        given |= dumped
    if body.structured_outputs and body.response_format:
        raise InvalidRequestError("structured_outputs and response_format: one of the two")
    if body.response_format and body.response_format.type == "json_schema":
        if body.response_format.json_schema is None:
            raise InvalidRequestError("response_format.json_schema is missing")
        given["json"] = body.response_format.json_schema.schema_
    if len(given) > 1 or (body.structured_outputs and not given):
        raise InvalidRequestError("structured_outputs: exactly one of choice, json and regex")
    return given or None


async def _deltas(
    service: AnswerService, asked: AnswerRequest
) -> AsyncGenerator[AnswerDelta, None]:
    if asked.prompt_options.parity == "reference":
        # The original's text is only known when the whole answer is.
        answer = await service.answer(asked)
        yield AnswerDelta(
            answer.text, answer.finish_reason, answer.usage, answer.scores, answer.cache
        )
        return
    async with aclosing(service.stream(asked)) as deltas:
        async for delta in deltas:
            yield delta


async def _events(
    first: AnswerDelta,
    deltas: AsyncGenerator[AnswerDelta, None],
    head: dict[str, Any],
    body: ChatRequest,
) -> AsyncIterator[str]:
    """Server-sent events; an error after the first is one of them, and the last."""
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunk = {**head, "object": "chat.completion.chunk", **({"usage": None} if with_usage else {})}
    usage = None
    yield _event({**chunk, "choices": [_choice({"role": "assistant", "content": ""})]})
    try:
        async with aclosing(deltas):
            async for delta in _from_first(first, deltas):
                usage = delta.usage or usage
                content = {"content": delta.text} if delta.text else {}
                if content or delta.finish_reason or delta.scores:
                    choice = _choice(content, delta.finish_reason, delta.scores)
                    yield _event({**chunk, "choices": [choice]})
    except Exception as error:
        known = error if isinstance(error, ServeAppError) else unexpected(error)
        note_error(known.code)
        yield _event(openai_error(known))
        return
    if usage is not None:
        note_usage(usage)
    if with_usage and usage is not None:
        yield _event({**chunk, "choices": [], "usage": _usage(usage)})
    yield DONE


async def _from_first(
    first: AnswerDelta, deltas: AsyncIterator[AnswerDelta]
) -> AsyncGenerator[AnswerDelta, None]:
    yield first
    async for delta in deltas:
        yield delta


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _head(model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{current_request_id()}",
        "created": int(time.time()),
        "model": model,
    }


def _choice(
    delta: dict[str, Any], finish_reason: str | None = None, scores: tuple[TokenScore, ...] = ()
) -> dict[str, Any]:
    return {
        "index": 0,
        "delta": delta,
        "logprobs": _logprobs(scores),
        "finish_reason": finish_reason,
    }


def _logprobs(scores: tuple[TokenScore, ...]) -> dict[str, Any] | None:
    if not scores:
        return None
    return {
        "content": [
            {**_token(each.text, each.logprob), "top_logprobs": [_token(*top) for top in each.top]}
            for each in scores
        ],
        "refusal": None,
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
