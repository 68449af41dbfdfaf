"""X-Request-Id: the client's where it is usable, else a new one; on every response and log line."""

import re
import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"
USABLE = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_current: ContextVar[str] = ContextVar("request_id")


def current_request_id() -> str:
    """Id of the request being answered; outside of a request, a new one."""
    return _current.get(None) or uuid.uuid4().hex


class RequestIds:
    """The outermost middleware, so that responses of the other middlewares have an id, too."""

    def __init__(self, app: ASGIApp, adds_header: bool = True) -> None:
        """`adds_header` is False where a server in front adds the header, as Serve's proxy does."""
        self._app = app
        self._adds_header = adds_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(HEADER, "")
        request_id = sent if USABLE.fullmatch(sent) else uuid.uuid4().hex
        token = _current.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start" and self._adds_header:
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _current.reset(token)
