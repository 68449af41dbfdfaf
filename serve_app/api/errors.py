"""Errors as JSON {"error": title, "code": HTTP status, "details": sentence}, as the original documents."""

import logging
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serve_app.errors import InvalidRequestError, OverloadedError, ServeAppError

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1


def error_response(error: ServeAppError) -> JSONResponse:
    """`error` stays a string: the documented client prints it."""
    headers = {"X-Error-Code": error.code}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    body = {"error": error.title, "code": error.status, "details": error.message}
    return JSONResponse(body, error.status, headers)


def add_error_handlers(api: FastAPI) -> None:
    """Routes contain no `try`: every error ends here."""

    @api.exception_handler(ServeAppError)
    async def _expected(_: Request, error: ServeAppError) -> JSONResponse:
        return error_response(error)

    @api.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(InvalidRequestError(describe_problems(error.errors())))

    @api.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        body = {"error": error.detail, "code": error.status_code, "details": error.detail}
        headers = {"X-Error-Code": f"http_{error.status_code}", **(error.headers or {})}
        return JSONResponse(body, error.status_code, headers)

    @api.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        # Anything unexpected is ours: the traceback goes to the log, never to the client.
        logger.error("unexpected error", exc_info=error)
        return error_response(ServeAppError("unexpected error; see the server's log"))


def describe_problems(problems: Iterable[Any]) -> str:
    """pydantic's findings as a sentence that names each field."""
    return "; ".join(map(_describe, problems))


def _describe(problem: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "body") or "body"
    return f"{where}: {problem['msg']}"
