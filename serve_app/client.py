"""Clients for a server over HTTP and for an engine in this process. Both take the bodies of the routes."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from serve_app.api.paths import EMOTIONS, PROCESS_VIDEO
from serve_app.errors import (
    InvalidRequestError,
    NotReadyError,
    RateLimitedError,
    ServeAppError,
    UnauthorizedError,
    error_by_code,
)
from serve_app.types import Dtype

if TYPE_CHECKING:
    import httpx

    from serve_app.local import LocalPipeline
    from serve_app.settings import AppSettings

DEFAULT_URL = "http://127.0.0.1:7887"
KEY_VARIABLE = "EMOTION_LLAMA_API_KEY"  # the caller's own key, for servers that ask for one

Body = Mapping[str, Any]
Details = dict[str, Any]


class Client(Protocol):
    """Answers and scores. Raises the same ServeAppErrors wherever the engine runs."""

    async def answer(self, body: Body) -> Details:
        """An `Answer` as a JSON object, for a body of POST /process_video."""

    async def score(self, body: Body) -> Details:
        """The answer of POST /v1/emotions to this body."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to ask: the server at `url`, or, with a `model`, an engine with that checkpoint, started here."""

    url: str = DEFAULT_URL
    model: Path | None = None
    dtype: Dtype = "auto"  # precision of the engine started here
    concurrency: int = 1  # requests at a time
    voice: bool = False  # whether voice statistics will be asked for


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[Client]:
    """Opens a client. A server is sent the API key in KEY_VARIABLE, if that is set.

    Raises:
        CheckpointError, EngineError: the engine cannot be started.
    """
    if target.model is None:
        import httpx

        key = os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(timeout=None, headers=headers) as http:
            yield ServerClient(http, target.url)
        return
    settings = _local_settings(target)
    from serve_app.local import LocalPipeline

    pipeline = LocalPipeline(settings.model, settings.media, settings.engine)
    try:
        yield LocalClient(pipeline, settings)
    finally:
        await pipeline.close()


class ServerClient:
    """Asks a server over HTTP."""

    def __init__(self, http: "httpx.AsyncClient", url: str) -> None:
        self._http = http
        self._url = url.rstrip("/")

    async def answer(self, body: Body) -> Details:
        answer = await self._post(PROCESS_VIDEO, {**body, "details": True})
        details: Details = answer["details"]
        return details

    async def score(self, body: Body) -> Details:
        return await self._post(EMOTIONS, body)

    async def _post(self, route: str, body: Body) -> Details:
        import httpx

        try:
            response = await self._http.post(f"{self._url}{route}", json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise InvalidRequestError(f"--url {self._url}: {error}") from error
        except httpx.TransportError as error:
            raise NotReadyError(f"no server answers at {self._url}: {error}") from error
        if not response.is_success:
            raise _remote_error(response)
        answer: Details = response.json()
        return answer


class LocalClient:
    """Asks an engine in this process, with the defaults of a server."""

    def __init__(self, pipeline: "LocalPipeline", settings: "AppSettings") -> None:
        self._pipeline = pipeline
        self._settings = settings

    async def answer(self, body: Body) -> Details:
        from serve_app.api.clip_question import check_question
        from serve_app.api.process_video import ProcessVideoRequest
        from serve_app.validation import validated

        request = validated(ProcessVideoRequest, body, strict=True)
        check_question(request.question, self._settings.limits)
        return asdict(await self._pipeline.answer(request.answer_request(self._settings)))

    async def score(self, body: Body) -> Details:
        from serve_app.api.clip_question import check_question
        from serve_app.api.emotions import EmotionsRequest, emotions_body
        from serve_app.validation import validated

        request = validated(EmotionsRequest, body, strict=True)
        check_question(request.question, self._settings.limits)
        return emotions_body(await self._pipeline.score(request.score_request(self._settings)))


def _local_settings(target: Target) -> "AppSettings":
    from serve_app.settings import AppSettings, EngineSettings, MediaSettings

    assert target.model is not None
    media = MediaSettings().without_roots(
        num_decode_workers=min(2, target.concurrency),
        max_queued_clips=max(target.concurrency, 1),
        voice=target.voice,
    )
    engine = EngineSettings(dtype=target.dtype)
    return AppSettings(model=target.model, media=media, engine=engine)


def _remote_error(response: "httpx.Response") -> ServeAppError:
    """The server's error as an instance of its class. A response in another form came from a proxy."""
    kind = error_by_code(response.headers.get("X-Error-Code"))
    if kind is UnauthorizedError:
        return kind(f"{response.url.host} needs a valid API key in {KEY_VARIABLE}")
    try:
        body = response.json()
        if kind is RateLimitedError and isinstance(body["error"], str):
            return kind(body["error"])  # here the original's guide has no other field
        return kind(body["details"] if "details" in body else body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ServeAppError(f"status {response.status_code}: {response.text[:200]}")
