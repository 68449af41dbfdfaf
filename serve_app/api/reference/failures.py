"""The errors a route can answer, as OpenAPI responses, found in the classes of serve_app/errors.py."""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from serve_app.api.clip_body import JSON
from serve_app.api.errors import PROBLEM, body_at, problem_body, status_at
from serve_app.api.paths import CHAT, OPEN, OPENAI_PREFIX, PREDICT, READY
from serve_app.api.reference.error_bodies import (
    ErrorBody,
    ErrorTitle,
    GradioInvalid,
    GradioRefused,
    OpenAIError,
    Problem,
)
from serve_app.api.reference.schemas import ref
from serve_app.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    CheckpointError,
    ClipError,
    ConfigurationError,
    InvalidRequestError,
    ModelNotFoundError,
    NotReadyError,
    OverloadedError,
    RateLimitedError,
    RequestError,
    ServeAppError,
    UnauthorizedError,
)

UNREADABLE = "http_400"  # FastAPI's code for a body that is not text
NEVER_RAISED = {RequestError, ClipError}  # base classes
AT_START = {CheckpointError, ConfigurationError}
AT_THE_DOOR = {UnauthorizedError, RateLimitedError}
OF_A_BODY = {BodyTooLargeError, BodyTooSlowError, OverloadedError}
OF_ONE_ROUTE = {NotReadyError: READY, ModelNotFoundError: CHAT}


@dataclass(frozen=True, slots=True)
class Failure:
    """One way in which a route may fail."""

    status: int
    code: str
    title: str
    sentence: str


def failures(path: str, has_body: bool, asks_for_keys: bool, limits_rates: bool) -> list[Failure]:
    """The errors of one route.

    Args:
        has_body: whether the route is about a clip and reads a body.
        asks_for_keys: whether the server has API keys.
        limits_rates: whether the server limits request rates.
    """
    if path in OPEN:
        kinds = {ServeAppError, BodyTooLargeError}
    elif has_body:
        kinds = set(_tree(ServeAppError)) - NEVER_RAISED - AT_START - OF_ONE_ROUTE.keys()
    else:
        kinds = {ServeAppError, *AT_THE_DOOR, *OF_A_BODY}
    kinds |= {kind for kind, route in OF_ONE_ROUTE.items() if route == path}
    kinds -= set() if asks_for_keys else {UnauthorizedError}
    kinds -= set() if limits_rates else {RateLimitedError}
    found = [_failure(path, kind) for kind in kinds]
    if path == CHAT or path in PREDICT:
        found.append(Failure(400, UNREADABLE, "Bad Request", "The body cannot be read."))
    return sorted(found, key=lambda each: (each.status, each.code))


def failure_responses(path: str, found: Iterable[Failure]) -> dict[str, Any]:
    """OpenAPI's response objects by status."""
    by_status: dict[int, list[Failure]] = defaultdict(list)
    for each in found:
        by_status[each.status].append(each)
    return {str(status): _response(path, status, same) for status, same in by_status.items()}


def _tree(kind: type[ServeAppError]) -> Iterator[type[ServeAppError]]:
    """The class and its subclasses in its own module: Ray subclasses every error that crosses processes."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == ServeAppError.__module__:
            yield from _tree(below)


def _failure(path: str, kind: type[ServeAppError]) -> Failure:
    is_bug = kind is ServeAppError  # its docstring describes the base class, not a failure
    sentence = "The server's log has it." if is_bug else inspect.getdoc(kind) or kind.title
    return Failure(status_at(path, kind), kind.code, kind.title, sentence.split("\n")[0])


def _response(path: str, status: int, same: list[Failure]) -> dict[str, Any]:
    lines = [f"`{each.code}`: {each.sentence}" for each in same]
    content = {JSON: {"schema": _schema(path, same), "examples": _examples(path, same)}}
    if not _is_gradios(path, same):
        content[PROBLEM] = {"schema": ref(Problem), "examples": _problems(same)}
    return {
        "description": "\n\n".join([HTTPStatus(status).phrase, *lines]),
        "headers": _headers(status, same),
        "content": content,
    }


def _is_gradios(path: str, same: list[Failure]) -> bool:
    """Whether Gradio's own form is sent, whatever the client accepts."""
    return path in PREDICT and {each.code for each in same} == {UNREADABLE}


def _headers(status: int, same: list[Failure]) -> dict[str, Any]:
    codes = {"type": "string", "enum": [each.code for each in same]}
    headers: dict[str, Any] = {
        "X-Error-Code": {
            "description": "The error's name, which stays the same.",
            "required": True,
            "schema": codes,
        }
    }
    if status == UnauthorizedError.status:
        challenge = {"type": "string", "const": "Bearer"}
        headers["WWW-Authenticate"] = {"required": True, "schema": challenge}
    if status in (RateLimitedError.status, OverloadedError.status):
        headers["Retry-After"] = {
            "description": "Seconds; without it there is no telling.",
            "required": status == RateLimitedError.status,
            "schema": {"type": "integer", "minimum": 1},
        }
    return headers


def _schema(path: str, same: list[Failure]) -> dict[str, Any]:
    codes = {each.code for each in same}
    if path.startswith(OPENAI_PREFIX):
        return ref(OpenAIError)
    if codes <= {kind.code for kind in AT_THE_DOOR}:
        return ref(ErrorTitle)
    if path not in PREDICT:
        return ref(ErrorBody)
    if _is_gradios(path, same):
        return ref(GradioRefused)
    if InvalidRequestError.code in codes:
        return {"anyOf": [ref(ErrorBody), ref(GradioInvalid)]}
    return ref(ErrorBody)


def _examples(path: str, same: list[Failure]) -> dict[str, Any]:
    return {
        each.code: {
            "value": {"detail": each.sentence}
            if _is_gradios(path, same)
            else body_at(path, each.title, each.status, each.sentence, each.code)
        }
        for each in same
    }


def _problems(same: list[Failure]) -> dict[str, Any]:
    return {each.code: {"value": _problem(each)} for each in same}


def _problem(failure: Failure) -> dict[str, Any]:
    body = problem_body(failure.title, failure.status, failure.sentence, failure.code)
    return {
        **body,
        "instance": "urn:request:6f0c",
    }  # fixed, so that the document is always the same
