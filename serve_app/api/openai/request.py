"""Turns a chat's body into the request for the stages."""

from typing import Any

from serve_app.api.clip_question import audio_mode_of, check_question
from serve_app.api.openai.conversation import read_conversation
from serve_app.api.openai.schema import ChatRequest
from serve_app.api.request_id import current_request_id
from serve_app.api.request_log import current_traceparent
from serve_app.errors import InvalidRequestError, ModelNotFoundError
from serve_app.settings import AppSettings
from serve_app.types import AnswerRequest, DecodeOptions, PromptOptions, Sampling


def answer_request(body: ChatRequest, settings: AppSettings) -> AnswerRequest:
    """The request for the stages.

    Raises:
        ModelNotFoundError: `model` names another model.
        InvalidRequestError: unusable messages, or two fields that contradict each other.
    """
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
    return AnswerRequest(
        conversation.source,
        conversation.question,
        DecodeOptions(body.frame, audio_mode=audio_mode_of(settings.parity)),
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
