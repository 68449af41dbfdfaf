"""Renders an error in one of three forms, by the route and by what the client accepts.

{"error": title, "code": status, "details": sentence}       the original's API: `error` stays a string
{"error": {"message", "type", "param", "code"}}             /v1/*, as OpenAI's clients read it
{"type", "title", "status", "detail", "instance", "code"}   RFC 9457, where Accept asks for it
"""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.in_band import in_band_body
from serve_app.api.paths import OPENAI_PREFIX, PREDICT, route_path
from serve_app.api.request_id import current_request_id
from serve_app.errors import (
    InvalidRequestError,
    OverloadedError,
    RateLimitedError,
    ServeAppError,
    UnauthorizedError,
)
from serve_app.settings import AppSettings
from serve_app.validation import describe_problems

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1
PROBLEM = "application/problem+json"
GRADIO_FIELDS = ("type", "loc", "msg")
OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_response(error: ServeAppError, scope: Scope) -> JSONResponse:
    """The error as a response in the form that this request's client reads."""
    headers = {"X-Error-Code": error.code}
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    status = status_at(route_path(scope), type(error))
    return _render(scope, error.title, status, error.message, error.code, headers)


def status_at(path: str, kind: type[ServeAppError]) -> int:
    """Status of an error on this path: OpenAI's API answers invalid fields with 400, not 422."""
    is_openai = path.startswith(OPENAI_PREFIX)
    return 400 if is_openai and issubclass(kind, InvalidRequestError) else kind.status


def _render(
    scope: Scope, title: str, status: int, message: str, code: str, headers: dict[str, str]
) -> JSONResponse:
    if PROBLEM in Headers(scope=scope).get("accept", ""):
        body = problem_body(title, status, message, code)
        return JSONResponse(body, status, headers, media_type=PROBLEM)
    return JSONResponse(body_at(route_path(scope), title, status, message, code), status, headers)


def problem_body(title: str, status: int, message: str, code: str) -> dict[str, Any]:
    """The problem details of RFC 9457."""
    return {
        "type": f"urn:emotion-llama:error:{code}",
        "title": title,
        "status": status,
        "detail": message,
        "instance": f"urn:request:{current_request_id()}",
        "code": code,
    }


def body_at(path: str, title: str, status: int, message: str, code: str) -> dict[str, Any]:
    """The error body in the form of this path."""
    if path.startswith(OPENAI_PREFIX):
        return _openai_object(title, status, message, code)
    # These two bodies are exactly those of the original's guide.
    if code == UnauthorizedError.code:
        return {"error": title}
    if code == RateLimitedError.code:
        return {"error": f"{title}: {message}"}
    return {"error": title, "code": status, "details": message}


def openai_error(error: ServeAppError) -> dict[str, Any]:
    """The error as OpenAI's object, for an event of a stream."""
    return _openai_object(error.title, error.status, error.message, error.code)


def _openai_object(title: str, status: int, message: str, code: str) -> dict[str, Any]:
    fallback = "invalid_request_error" if status < 500 else "server_error"
    kind = OPENAI_TYPES.get(status, fallback)
    error = {"message": f"{title}: {message}", "type": kind, "param": None, "code": code}
    return {"error": error}


def unexpected(error: Exception) -> ServeAppError:
    """The error to answer an unexpected exception with. The traceback goes to the log, not to the client."""
    logger.error("unexpected error in request %s", current_request_id(), exc_info=error)
    return ServeAppError("unexpected error; the server's log has it under the request id")


class UnexpectedErrors:
    """Answers unexpected exceptions. It runs inside the middleware that adds headers and logs requests, while
    FastAPI's own handler would run outside of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def watch(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if has_started or scope["type"] != "http":
                raise
            await error_response(unexpected(error), scope)(scope, receive, send)


def add_error_handlers(api: FastAPI, settings: AppSettings) -> None:
    """Register the handlers for all errors, so that routes need no `try`."""

    @api.exception_handler(ServeAppError)
    async def _expected(request: Request, error: ServeAppError) -> JSONResponse:
        if settings.legacy_errors == "in_band":
            body = in_band_body(error, route_path(request.scope))
            if body is not None:
                return JSONResponse(body, headers={"X-Error-Code": error.code})
        return error_response(error, request.scope)

    @api.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        if route_path(request.scope) in PREDICT:
            # Gradio's own form for a malformed body, without the input, which Gradio repeats in it.
            problems = [{name: each[name] for name in GRADIO_FIELDS} for each in error.errors()]
            headers = {"X-Error-Code": InvalidRequestError.code}
            return JSONResponse({"detail": jsonable_encoder(problems)}, 422, headers)
        invalid = InvalidRequestError(describe_problems(error.errors()))
        return error_response(invalid, request.scope)

    @api.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = {"X-Error-Code": f"http_{error.status_code}", **(error.headers or {})}
        if route_path(request.scope) in PREDICT:
            return JSONResponse({"detail": error.detail}, error.status_code, headers)
        title = HTTPStatus(error.status_code).phrase
        code = headers["X-Error-Code"]
        return _render(request.scope, title, error.status_code, error.detail, code, headers)
