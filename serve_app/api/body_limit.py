"""Reads a request's body whole before anything parses it: capped in bytes and in time."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.errors import error_response
from serve_app.errors import BodyTooLargeError, BodyTooSlowError, OverloadedError, RequestError
from serve_app.settings import LimitSettings


class BodyLimit:
    """Pure ASGI: FastAPI's own hooks run after the body was read, and would wait for it for ever."""

    def __init__(self, app: ASGIApp, limits: LimitSettings) -> None:
        self._app = app
        self._limits = limits
        self._num_buffered_bytes = 0  # of all requests that are inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        chunks: list[bytes] = []
        try:
            self._check_size(_declared_bytes(scope))
            if await self._read(receive, chunks):
                await self._app(scope, _replay(b"".join(chunks), receive), send)
        except (RequestError, OverloadedError) as error:
            await error_response(error, scope)(scope, receive, send)
        finally:
            self._num_buffered_bytes -= sum(map(len, chunks))

    async def _read(self, receive: Receive, chunks: list[bytes]) -> bool:
        """Into `chunks`. False: the client left before all of it was sent."""
        timeout_s = self._limits.body_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    chunks.append(message.get("body", b""))
                    self._num_buffered_bytes += len(chunks[-1])
                    self._check_size(sum(map(len, chunks)))
                    self._check_buffer()
                    if not message.get("more_body", False):
                        return True
        except TimeoutError:
            raise BodyTooSlowError(f"the body took longer than {timeout_s} s, the limit") from None

    def _check_size(self, num_bytes: int) -> None:
        limit = self._limits.max_body_bytes
        if num_bytes > limit:
            raise BodyTooLargeError(
                f"the request has {num_bytes} bytes or more; the limit is {limit}"
            )

    def _check_buffer(self) -> None:
        limit = self._limits.max_buffered_bytes
        if self._num_buffered_bytes > limit:
            raise OverloadedError(f"requests with {limit} bytes in all are in progress already")


def _declared_bytes(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return int(declared) if declared.isdigit() else 0


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then whatever the client does next: leave."""
    unread = [body]

    async def replayed() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replayed
