"""Streams a chat's answer: turns the stages' deltas into server-sent events."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from serve_app.api.errors import openai_error, unexpected
from serve_app.api.openai.objects import chunk_choice, usage_object
from serve_app.api.openai.schema import ChatRequest
from serve_app.api.request_log import note_error, note_usage
from serve_app.api.service import AnswerService
from serve_app.errors import ServeAppError
from serve_app.types import AnswerDelta, AnswerRequest

DONE = "data: [DONE]\n\n"


async def answer_deltas(
    service: AnswerService, asked: AnswerRequest
) -> AsyncGenerator[AnswerDelta, None]:
    """The service's deltas; with `parity: reference` the whole answer as a single delta."""
    if asked.prompt_options.parity == "reference":
        # The original's text of an answer is known only when all its tokens are.
        answer = await service.answer(asked)
        yield AnswerDelta(
            answer.text, answer.finish_reason, answer.usage, answer.scores, answer.cache
        )
        return
    async with aclosing(service.stream(asked)) as deltas:
        async for delta in deltas:
            yield delta


async def events(
    first: AnswerDelta,
    deltas: AsyncGenerator[AnswerDelta, None],
    head: dict[str, Any],
    body: ChatRequest,
) -> AsyncIterator[str]:
    """The server-sent events of an answer. An error after the first delta becomes the last event."""
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunk = {**head, "object": "chat.completion.chunk", **({"usage": None} if with_usage else {})}
    usage = None
    yield _event({**chunk, "choices": [chunk_choice({"role": "assistant", "content": ""})]})
    try:
        async with aclosing(deltas):
            async for delta in _from_first(first, deltas):
                usage = delta.usage or usage
                content = {"content": delta.text} if delta.text else {}
                if content or delta.finish_reason or delta.scores:
                    choice = chunk_choice(content, delta.finish_reason, delta.scores)
                    yield _event({**chunk, "choices": [choice]})
    except Exception as error:
        known = error if isinstance(error, ServeAppError) else unexpected(error)
        note_error(known.code)
        yield _event(openai_error(known))
        return
    if usage is not None:
        note_usage(usage)
    if with_usage and usage is not None:
        yield _event({**chunk, "choices": [], "usage": usage_object(usage)})
    yield DONE


async def _from_first(
    first: AnswerDelta, deltas: AsyncIterator[AnswerDelta]
) -> AsyncGenerator[AnswerDelta, None]:
    yield first
    async for delta in deltas:
        yield delta


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
