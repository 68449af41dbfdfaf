"""Reads a request's body whole before anything parses it: capped in bytes and in time."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.errors import error_response
from serve_app.errors import BodyTooLargeError, BodyTooSlowError, OverloadedError, RequestError
from serve_app.settings import LimitSettings


class BodyLimit:
    """Pure ASGI middleware: FastAPI's own hooks run after the whole body was read, without a time limit."""

    def __init__(self, app: ASGIApp, limits: LimitSettings) -> None:
        self._app = app
        self._limits = limits
        self._num_buffered_bytes = 0  # of all requests in progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body()
        try:
            self._check_size(declared_bytes(scope))
            if await self._read(receive, body):
                await self._app(scope, _replay(body.join(), receive), send)
        except (RequestError, OverloadedError) as error:
            await error_response(error, scope)(scope, receive, send)
        finally:
            self._num_buffered_bytes -= body.num_bytes

    async def _read(self, receive: Receive, body: "_Body") -> bool:
        """Read the request's body into `body`. False: the client disconnected before its end."""
        limits, started = self._limits, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limits.body_timeout_s) as timeout:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    chunk = message.get("body", b"")
                    body.add(chunk)
                    self._num_buffered_bytes += len(chunk)
                    self._check_size(body.num_bytes)
                    self._check_buffer()
                    if not message.get("more_body", False):
                        return True
                    # What has come earns time for more: a large clip may take long, a trickle may not.
                    earned_s = body.num_bytes / limits.min_body_bytes_per_s
                    timeout.reschedule(started + limits.body_timeout_s + earned_s)
        except TimeoutError:
            raise BodyTooSlowError(
                f"{body.num_bytes} bytes of the body came in {limits.body_timeout_s} s and the time they "
                f"earned; expected {limits.min_body_bytes_per_s} bytes/s"
            ) from None

    def _check_size(self, num_bytes: int) -> None:
        limit = self._limits.max_body_bytes
        if num_bytes > limit:
            raise too_large(num_bytes, limit)

    def _check_buffer(self) -> None:
        limit = self._limits.max_buffered_bytes
        if self._num_buffered_bytes > limit:
            raise OverloadedError(f"requests with {limit} bytes in all are in progress already")


class _Body:
    """The chunks received so far. `num_bytes` stays known after they were joined."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.num_bytes = 0

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self.num_bytes += len(chunk)

    def join(self) -> bytes:
        whole = b"".join(self._chunks)
        self._chunks.clear()
        return whole


def declared_bytes(scope: Scope) -> int:
    """Content-Length of a request; 0 where it has none or a malformed one."""
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return int(declared) if declared.isdigit() else 0


def too_large(num_bytes: int, limit: int) -> BodyTooLargeError:
    """The error for a body of at least `num_bytes`."""
    return BodyTooLargeError(f"the request has {num_bytes} bytes or more; the limit is {limit}")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the whole body as one message, then the client's further messages."""
    unread = [body]

    async def replayed() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replayed
