"""Fetches a clip from an https URL: only from allowed domains, capped in bytes and in time."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
from yarl import URL

from serve_app.errors import (
    ClipForbiddenError,
    ClipNotFoundError,
    ClipTooLargeError,
    ClipUnreachableError,
    ConfigurationError,
    InvalidRequestError,
    ServeAppError,
)
from serve_app.media.addresses import PinningResolver, check_url
from serve_app.settings import MediaSettings
from serve_app.types import ClipSource

REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Ask for no compression: compressed responses could expand to any size.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "emotion-llama"}


class Fetcher:
    """Fetches the bytes of sources that are URLs. Its errors name the host, never the URL, which may hold a
    secret signature."""

    def __init__(self, settings: MediaSettings) -> None:
        """Raises ConfigurationError: media.urls.ca_file cannot be used."""
        self._max_bytes = settings.max_clip_bytes
        self._settings = settings.urls
        self._tls = _tls(settings.urls.ca_file) if settings.urls.allowed_domains else True
        self._slots = asyncio.Semaphore(self._settings.max_parallel)

    async def fetched(self, source: ClipSource) -> ClipSource:
        """The source with its bytes fetched if it is a URL; any other source unchanged.

        Raises:
            InvalidRequestError: not a URL.
            ClipForbiddenError: the host is not allowed.
            ClipNotFoundError: the host answered 404 or 410.
            ClipTooLargeError: more bytes than allowed.
            ClipUnreachableError: any other failure.
        """
        if source.url is None:
            return source
        try:
            url = URL(source.url)
        except ValueError as error:
            raise InvalidRequestError(f"video_path is no URL: {error}") from error
        check_url(url, self._settings)
        return ClipSource(data=await self._in_time(url), features=source.features)

    async def _in_time(self, url: URL) -> bytes:
        limit_s = self._settings.timeout_s
        try:
            async with self._slots, asyncio.timeout(limit_s):
                return await self._follow(url)
        except TimeoutError:
            raise ClipUnreachableError(
                f"{url.raw_host} did not send the clip in {limit_s} s, the limit"
            ) from None
        except aiohttp.ClientError as error:
            raise _explain(error, url) from error

    async def _follow(self, url: URL) -> bytes:
        connector = aiohttp.TCPConnector(
            resolver=PinningResolver(self._settings), ssl=self._tls, use_dns_cache=False
        )
        async with aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            for _ in range(self._settings.max_redirects + 1):
                check_url(url, self._settings)
                async with session.get(url, allow_redirects=False) as response:
                    if response.status not in REDIRECTS:
                        return await self._read(response)
                    url = _target(url, response)
        raise ClipUnreachableError(
            f"{url.raw_host} is one redirect too many; the limit is {self._settings.max_redirects}"
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        host = response.url.raw_host
        if response.status in (404, 410):
            raise ClipNotFoundError(f"{host} has no such file: status {response.status}")
        if response.status != 200:
            raise ClipUnreachableError(f"{host} answered with status {response.status}")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise ClipUnreachableError(f"{host} sent Content-Encoding {encoding!r}, unasked")
        self._check_size(response.content_length or 0)
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            self._check_size(len(data))
        return bytes(data)

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise ClipTooLargeError(
                f"clip has {num_bytes} bytes or more; the limit is {self._max_bytes} bytes"
            )


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"media.urls.ca_file {ca_file}: {error}") from error


def _target(url: URL, response: aiohttp.ClientResponse) -> URL:
    try:
        return url.join(URL(response.headers.get("Location", "")))
    except ValueError as error:
        raise ClipUnreachableError(f"{url.raw_host} redirects to no URL: {error}") from error


def _explain(error: aiohttp.ClientError, url: URL) -> ServeAppError:
    """The error for a failed request. It names no IP address: clients must not learn internal ones."""
    # Whether the resolver's errors come wrapped depends on aiohttp's version.
    cause = error.__cause__
    if isinstance(cause, ClipForbiddenError | ClipUnreachableError):
        return cause
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ClipUnreachableError(f"the certificate of {url.raw_host} is not valid")
    return ClipUnreachableError(f"{url.raw_host} cannot be read: {type(error).__name__}")
