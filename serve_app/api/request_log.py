"""Logs one JSON line per request when it has ended, without its question, answer or clip."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.observers import Observers
from serve_app.api.request_id import current_request_id
from serve_app.traces import Span
from serve_app.types import Answer, CacheStatus, LabelScores, Usage

logger = logging.getLogger("serve_app.requests")

KEY_NAME = "api_key_name"  # key in the ASGI scope's state
CLIENT_LEFT = 499  # nginx's status for a client that left before any status was sent

_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
_noted: ContextVar[dict[str, Any] | None] = ContextVar("noted", default=None)


def log_to_stderr() -> None:
    """Send request lines to stderr: Ray's session log for a replica, the pod log in a container."""
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def current_traceparent() -> str | None:
    """The traceparent to hand to the stages with the request being answered; None while traces are off."""
    return _traceparent.get()


def note(result: Answer | LabelScores) -> None:
    """Add token counts, cache status and stage times to the log line of the request being answered."""
    note_usage(result.usage)
    note_cache(result.cache)
    _note({f"{stage}_ms": round(value, 1) for stage, value in result.timings_ms.items()})


def note_usage(usage: Usage) -> None:
    """Add only the token counts to the log line, as for a stream."""
    _note(
        {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
        }
    )


def note_cache(cache: CacheStatus) -> None:
    """Add the cache status to the log line; None adds nothing."""
    _note({} if cache is None else {"cache": cache})


def note_error(code: str) -> None:
    """Add the error code to the log line, for a stream that failed after its status was sent."""
    _note({"error_code": code})


def _note(fields: Mapping[str, Any]) -> None:
    noted = _noted.get()
    if noted is not None:
        noted.update(fields)


class RequestLog:
    """Middleware just inside RequestIds, so that it sees the responses of all other middlewares."""

    def __init__(self, app: ASGIApp, observers: Observers | None = None) -> None:
        self._app = app
        self._observers = observers or Observers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._observers.request(scope) as span:
            await self._watched(scope, receive, send, span)

    async def _watched(self, scope: Scope, receive: Receive, send: Send, span: Span) -> None:
        started = time.perf_counter()
        noted: dict[str, Any] = {}
        seen: dict[str, Any] = {"status": CLIENT_LEFT}
        tokens = _noted.set(noted), _traceparent.set(span.traceparent)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                code = Headers(raw=message["headers"]).get("x-error-code")
                seen.update({"error_code": code} if code else {})
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            _noted.reset(tokens[0])
            _traceparent.reset(tokens[1])
            elapsed_ms = (time.perf_counter() - started) * 1e3
            line = _line(scope, seen, noted | _trace_id(span), elapsed_ms)
            logger.info("%s", json.dumps(line))
            self._observers.ended(span, line)


def _trace_id(span: Span) -> dict[str, str]:
    return {} if span.traceparent is None else {"trace_id": span.traceparent.split("-")[1]}


def _line(
    scope: Scope, seen: Mapping[str, Any], noted: Mapping[str, Any], elapsed_ms: float
) -> dict[str, Any]:
    route = scope.get("route")
    key = scope.get("state", {}).get(KEY_NAME)
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": current_request_id(),
        "method": scope["method"],
        # The template, not the path: an unknown path may contain anything.
        "route": getattr(route, "path", None),
        **({"key": key} if key else {}),
        **seen,
        "elapsed_ms": round(elapsed_ms, 1),
        **noted,
    }
