"""Caps the bytes of a request body before anything parses it, by its header and while it arrives."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.errors import error_response
from serve_app.errors import ClipTooLargeError


class BodyLimit:
    """Pure ASGI: FastAPI's own hooks run after the body has been read."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            await error_response(self._error(int(declared)))(scope, receive, send)
            return
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_body_bytes:
                raise self._error(num_bytes)
            return message

        async def unless_over(message: Message) -> None:
            # FastAPI turns what is raised while it reads a body into a 400 of its own; drop that.
            if num_bytes <= self._max_body_bytes:
                await send(message)

        await self._app(scope, counted, unless_over)
        if num_bytes > self._max_body_bytes:
            await error_response(self._error(num_bytes))(scope, receive, send)

    def _error(self, num_bytes: int) -> ClipTooLargeError:
        return ClipTooLargeError(
            f"the request body has {num_bytes} bytes or more; the limit is {self._max_body_bytes}"
        )
