"""Builds the OpenAI objects that /v1/chat/completions answers with."""

import time
from typing import Any

from serve_app.api.request_id import current_request_id
from serve_app.types import Answer, TokenScore, Usage


def completion(model: str, answer: Answer) -> dict[str, Any]:
    """OpenAI's object for a whole answer; `model` as the client named it."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "logprobs": _logprobs(answer.scores),
        "finish_reason": answer.finish_reason,
    }
    return {
        **completion_head(model),
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage_object(answer.usage),
    }


def completion_head(model: str) -> dict[str, Any]:
    """The fields shared by an answer and by every event of its stream."""
    return {
        "id": f"chatcmpl-{current_request_id()}",
        "created": int(time.time()),
        "model": model,
    }


def chunk_choice(
    delta: dict[str, Any], finish_reason: str | None = None, scores: tuple[TokenScore, ...] = ()
) -> dict[str, Any]:
    """The choice of one stream event, with what the answer has grown by."""
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


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
