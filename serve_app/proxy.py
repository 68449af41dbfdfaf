"""Middleware inside Serve's HTTP proxy, which by itself limits neither the size nor the rate of a body.

Serve reads a body as fast as it comes and keeps it until a replica asks for it. Once a request is
answered, it reads and discards the rest of the body for as long as the client sends.
"""

import asyncio
import os

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.body_limit import declared_bytes, too_large
from serve_app.api.errors import error_response
from serve_app.api.observers import Observers
from serve_app.api.request_id import RequestIds
from serve_app.api.request_log import RequestLog, log_to_stderr
from serve_app.settings import LimitSettings

CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"  # Serve's; its value is CALLBACK
CALLBACK = "serve_app.proxy:middlewares"
# limits.max_body_bytes: a proxy does not get the settings.
MAX_BODY_BYTES_VARIABLE = "EMOTION_LLAMA_MAX_BODY_BYTES"


# Rate at which one body is passed on: more than a network brings, and no more than replicas keep up with.
MAX_BYTES_PER_S = 256 << 20
# After an early answer the body is read on for so long: closing at once would reset the connection, and a
# client that is still sending would lose the answer.
LINGER_S = 2.0


def middlewares() -> list[Middleware]:
    """The callback that Serve's proxy calls for its middlewares."""
    log_to_stderr()
    from serve_app.deployments.ray_meter import RayMeter  # only this function runs inside Ray

    limit = int(os.environ.get(MAX_BODY_BYTES_VARIABLE, LimitSettings().max_body_bytes))
    return [Middleware(BodyGate, max_body_bytes=limit, observers=Observers(RayMeter()))]


class BodyGate:
    """Limits the size and rate of bodies, and closes connections whose request was answered early."""

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, observers: Observers | None = None
    ) -> None:
        self._app = app
        self._observers = observers
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send, self._max_body_bytes)
        if request.num_declared_bytes <= self._max_body_bytes:
            await self._app(scope, request.receive, request.send)
        if request.is_too_large:
            num_bytes = max(request.num_bytes, request.num_declared_bytes)
            error = too_large(num_bytes, self._max_body_bytes)

            async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
                await error_response(error, scope)(scope, receive, send)

            await RequestIds(RequestLog(refuse, self._observers))(scope, receive, request.answer)


class _Request:
    """Wraps the `receive` and `send` of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self.num_declared_bytes = declared_bytes(scope)
        self.num_bytes = 0
        self._has_all = not self.num_declared_bytes and "transfer-encoding" not in Headers(
            scope=scope
        )
        self._is_answered = False
        self._receive, self._send = receive, send
        self._max_body_bytes = max_body_bytes

    @property
    def is_too_large(self) -> bool:
        return max(self.num_bytes, self.num_declared_bytes) > self._max_body_bytes

    async def receive(self) -> Message:
        """`receive` for Serve: once the body is too large, the client seems to have disconnected."""
        message = await self._receive()
        self._count(message)
        if self.is_too_large or self._is_answered:
            return {"type": "http.disconnect"}
        await asyncio.sleep(len(message.get("body", b"")) / MAX_BYTES_PER_S)
        return message

    async def send(self, message: Message) -> None:
        """`send` for Serve. Its answer to a client that seems to have left is dropped."""
        if not self.is_too_large:
            await self.answer(message)

    async def answer(self, message: Message) -> None:
        """Send to the client. If it is still sending its body, the connection is closed afterwards."""
        if message["type"] == "http.response.start" and not self._has_all:
            MutableHeaders(scope=message)["Connection"] = "close"
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and not self._has_all:
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _linger(self) -> None:
        self._is_answered = True
        try:
            async with asyncio.timeout(LINGER_S):
                while not self._has_all:
                    self._count(await self._receive())
        except TimeoutError:
            pass

    def _count(self, message: Message) -> None:
        self.num_bytes += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._has_all = True
