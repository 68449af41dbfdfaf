"""Who may ask, and how often: API keys and rate limits, before a request's body is read."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.errors import error_response
from serve_app.api.paths import OPEN, route_path
from serve_app.api.request_log import KEY_NAME
from serve_app.api_keys import ApiKey, KeyStore
from serve_app.errors import RateLimitedError, UnauthorizedError
from serve_app.rate_limits import Allowance, RateCounter
from serve_app.settings import AccessSettings

BEARER = "bearer "


class Access:
    """401 without a valid key where there are keys; 429 over the limit of the key or the address."""

    def __init__(
        self, app: ASGIApp, keys: KeyStore, counter: RateCounter, settings: AccessSettings
    ) -> None:
        self._app = app
        self._keys = keys
        self._counter = counter
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if route_path(scope) in OPEN and scope["method"] in ("GET", "HEAD"):
            await self._app(scope, _without_body(receive), send)
            return
        key = None
        if not self._keys.is_open:
            found = map(self._keys.find, presented_keys(Headers(scope=scope)))
            key = next(filter(None, found), None)
            if key is None:
                error = UnauthorizedError("send a valid key as X-API-Key or Authorization: Bearer")
                await error_response(error, scope)(scope, receive, send)
                return
            scope.setdefault("state", {})[KEY_NAME] = key.name
        rate = (key.rate if key else None) or self._settings.rate
        if rate is None:
            await self._app(scope, receive, send)
            return
        allowance = await self._counter.take(_who(key, scope), rate)
        send = _with_headers(send, allowance)
        if not allowance.is_allowed:
            error_429 = RateLimitedError(allowance.rate)
            await error_response(error_429, scope)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def presented_keys(headers: Headers) -> list[str]:
    """The keys of both headers: some clients fill in one of the two by themselves."""
    authorization = headers.get("authorization", "")
    is_bearer = authorization.lower().startswith(BEARER)
    bearer = [authorization[len(BEARER) :].strip()] if is_bearer else []
    return [*bearer, headers.get("x-api-key", "")]


def _without_body(receive: Receive) -> Receive:
    """A `receive` that yields an empty body: a client without a key gets no body read, not even a probe's."""
    unread = [{"type": "http.request", "body": b"", "more_body": False}]

    async def empty() -> Message:
        return unread.pop() if unread else await receive()

    return empty


def _who(key: ApiKey | None, scope: Scope) -> str:
    if key is not None:
        return f"key {key.name}"
    client = scope.get("client")
    return f"address {client[0] if client else 'unknown'}"


def _with_headers(send: Send, allowance: Allowance) -> Send:
    """Adds the rate-limit headers to a response, by slowapi's names and by those of the IETF draft."""
    fields = {
        "X-RateLimit-Limit": str(allowance.limit),
        "X-RateLimit-Remaining": str(allowance.remaining),
        "X-RateLimit-Reset": str(allowance.reset_s),
        "RateLimit-Policy": f'"default";q={allowance.limit};w={allowance.window_s}',
        "RateLimit": f'"default";r={allowance.remaining};t={allowance.reset_s}',
    }
    if not allowance.is_allowed:
        fields["Retry-After"] = str(max(1, allowance.reset_s))

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(fields)
        await send(message)

    return send_with_headers
