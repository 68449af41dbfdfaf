"""Schemas of the answers of /v1/chat/completions and /v1/models, which api/openai/objects.py builds."""

from typing import Any, Literal

from pydantic import Field

from serve_app.api.clip_body import JSON
from serve_app.api.reference.error_bodies import OpenAIError
from serve_app.api.reference.examples import CHAT_STREAM
from serve_app.api.reference.schemas import Body, left_out, ref

FinishReason = Literal["stop", "length"]


class Model(Body):
    id: str
    object: Literal["model"]
    created: int = Field(description="Seconds since 1970: when the server started.")
    owned_by: str
    max_model_len: int = Field(gt=0, description="Tokens of prompt and answer together.")


class ModelList(Body):
    object: Literal["list"]
    data: list[Model]


class TopLogprob(Body):
    token: str
    logprob: float = Field(le=0)
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class Logprobs(Body):
    content: list[TokenLogprob]
    refusal: None


class PromptTokensDetails(Body):
    cached_tokens: int = Field(ge=0)


class CompletionUsage(Body):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)
    prompt_tokens_details: PromptTokensDetails


class CompletionMessage(Body):
    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(Body):
    index: Literal[0]
    message: CompletionMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason


class Completion(Body):
    id: str = Field(pattern="^chatcmpl-")
    created: int = Field(description="Seconds since 1970.")
    model: str
    object: Literal["chat.completion"]
    choices: list[Choice] = Field(min_length=1, max_length=1)
    usage: CompletionUsage


class Delta(Body):
    """What the answer has grown by. The first delta has the role, the last one may be empty."""

    role: Literal["assistant"] = left_out("Of the first one.")
    content: str = left_out("What the answer has grown by.")


class ChunkChoice(Body):
    index: Literal[0]
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(Body):
    """An event of a stream. With `stream_options.include_usage` all have `usage`; the last one has counts."""

    id: str = Field(pattern="^chatcmpl-")
    created: int
    model: str
    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice] = Field(max_length=1)
    usage: CompletionUsage | None = None


SSE = "text/event-stream"
# The schema describes one event: OpenAPI 3.1 cannot describe a stream of them.
EVENT_STREAM: dict[str, Any] = {
    SSE: {
        "schema": {
            "type": "object",
            "required": ["data"],
            "properties": {
                "data": {
                    "anyOf": [
                        {"const": "[DONE]"},
                        {
                            "type": "string",
                            "contentMediaType": JSON,
                            "contentSchema": {"anyOf": [ref(CompletionChunk), ref(OpenAIError)]},
                        },
                    ]
                }
            },
        },
        "example": CHAT_STREAM,
    }
}
