"""Clips by URL: real TLS servers on loopback, and names that try to lead elsewhere."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
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
from serve_app.media.addresses import check_url, is_public
from serve_app.media.fetch import Fetcher
from serve_app.settings import MediaSettings, UrlSettings
from serve_app.types import ClipSource

CLIP = b"the bytes of a clip" * 1000
ALLOWED, INTERNAL = "127.0.0.2", "127.0.0.3"  # where the clips are, and where nobody may look
TIMEOUT_S = 0.5


@dataclass
class Servers:
    """The clips' server on ALLOWED, and one on INTERNAL that only counts who comes."""

    port: int
    ca_file: Path
    requested: list[str] = field(default_factory=list)  # paths at ALLOWED
    intruders: list[str] = field(default_factory=list)  # paths at INTERNAL

    def settings(self, **urls: Any) -> MediaSettings:
        chosen: dict[str, Any] = {
            "allowed_domains": (f"localhost:{self.port}", f"clips.test:{self.port}"),
            "allowed_networks": (ip_network(f"{ALLOWED}/32"),),
            "ca_file": self.ca_file,
            "timeout_s": TIMEOUT_S,
        }
        return MediaSettings(max_clip_bytes=100_000, urls=UrlSettings(**(chosen | urls)))

    async def fetch(self, path: str, host: str = "clips.test", **urls: Any) -> bytes | None:
        source = ClipSource(url=f"https://{host}:{self.port}{path}")
        return (await Fetcher(self.settings(**urls)).fetched(source)).data


async def serve_clips(servers: Servers, request: web.BaseRequest) -> web.StreamResponse:
    path = request.path
    servers.requested.append(path)
    if path == "/absent":
        raise web.HTTPNotFound
    if path == "/broken":
        raise web.HTTPInternalServerError
    if path == "/clip.mp4":
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=CLIP)
    if path.startswith("/to/"):
        return web.Response(status=302, headers={"Location": request.query["url"]})
    if path.startswith("/hops/"):
        left = int(path.split("/")[-1])
        raise web.HTTPFound(f"/hops/{left - 1}" if left else "/clip.mp4")
    if path == "/packed":
        return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
    if path == "/declared-large":
        return web.Response(body=b"x" * 100_001)
    response = web.StreamResponse()
    await response.prepare(request)
    if path == "/slow":
        await asyncio.sleep(10 * TIMEOUT_S)
    if path == "/endless":
        while True:
            await response.write(b"x" * 10_000)
    if path == "/trickle":
        for _ in range(100):
            await response.write(b"x")
            await asyncio.sleep(TIMEOUT_S / 10)
    return response


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    authority = trustme.CA()
    ca_file = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "clips.test", "odd.test", ALLOWED).configure_cert(tls)
    with socket.socket() as probe:
        probe.bind((ALLOWED, 0))
        port = probe.getsockname()[1]
    servers = Servers(port, ca_file)

    async def clips(request: web.BaseRequest) -> web.StreamResponse:
        return await serve_clips(servers, request)

    async def internal(request: web.BaseRequest) -> web.StreamResponse:
        servers.intruders.append(request.path)
        return web.Response(body=b"a secret")

    runners = []
    for address, handler in ((ALLOWED, clips), (INTERNAL, internal)):
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        await web.TCPSite(runner, address, port, ssl_context=tls, shutdown_timeout=0).start()
        runners.append(runner)
    yield servers
    for runner in runners:
        await runner.cleanup()


class Names:
    """Stands for DNS: each name gives its next list of addresses, the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.num_lookups = 0

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.num_lookups += 1
        answers = self.answers.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, servers: Servers) -> Iterator[Names]:
    names = Names()
    names.answers = {"clips.test": [[ALLOWED]]}
    servers.requested.clear()
    servers.intruders.clear()

    def getaddrinfo(_: asyncio.AbstractEventLoop) -> Callable[..., Any]:
        return names.getaddrinfo

    loop = type(asyncio.get_event_loop_policy().new_event_loop())
    monkeypatch.setattr(loop, "getaddrinfo", property(getaddrinfo))
    yield names
    assert not servers.intruders, "somebody came to the internal server"


async def test_a_clip_of_an_allowed_domain_is_fetched(servers: Servers, names: Names) -> None:
    assert await servers.fetch("/clip.mp4") == CLIP
    assert await servers.fetch("/hops/2") == CLIP


async def test_other_sources_stay_as_they_are(servers: Servers) -> None:
    for source in (ClipSource(path="/a.mp4"), ClipSource(data=b"x")):
        assert await Fetcher(servers.settings()).fetched(source) is source


@pytest.mark.parametrize(
    ("path", "error", "why"),
    [
        ("/absent", ClipNotFoundError, "no such file"),
        ("/broken", ClipUnreachableError, "status 500"),
        ("/packed", ClipUnreachableError, "Content-Encoding 'gzip'"),
        ("/declared-large", ClipTooLargeError, "the limit is 100000"),
        ("/endless", ClipTooLargeError, "the limit is 100000"),
        ("/slow", ClipUnreachableError, "in 0.5 s, the limit"),
        ("/trickle", ClipUnreachableError, "in 0.5 s, the limit"),
        ("/hops/3", ClipUnreachableError, "one redirect too many; the limit is 3"),
        ("/to/?url=https://[", ClipUnreachableError, "redirects to no URL"),
    ],
)
async def test_what_a_host_does_wrong_is_told(
    servers: Servers, names: Names, path: str, error: type[ServeAppError], why: str
) -> None:
    with pytest.raises(error) as raised:
        await servers.fetch(path)
    assert why in raised.value.message
    assert ALLOWED not in raised.value.message


@pytest.mark.parametrize(
    "target",
    [
        f"https://{INTERNAL}:PORT/",
        "https://localhost:PORT/",  # allowed as a domain, and at an address that is not
        "https://internal.test:PORT/",
        "http://clips.test:PORT/clip.mp4",
        "file:///etc/passwd",
        "https://2130706435:PORT/",
        "https://[::ffff:127.0.0.3]:PORT/",
        "https://user:password@clips.test:PORT/clip.mp4",
        "https://clips.test:1/",
    ],
)
@pytest.mark.parametrize("hop", ["first", "redirect"])
async def test_nothing_leads_elsewhere(
    servers: Servers, names: Names, target: str, hop: str
) -> None:
    for name in ("localhost", "internal.test", "2130706435"):
        names.answers[name] = [[INTERNAL]]
    url = target.replace("PORT", str(servers.port))
    if hop == "redirect":
        url = f"https://clips.test:{servers.port}/to/?url={URL(url)!s}"
    with pytest.raises(ClipForbiddenError):
        await Fetcher(servers.settings()).fetched(ClipSource(url=url))


async def test_a_name_is_looked_up_once_and_meant_as_it_was_then(
    servers: Servers, names: Names
) -> None:
    names.answers["clips.test"] = [[ALLOWED], [INTERNAL]]
    assert await servers.fetch("/clip.mp4") == CLIP
    names.answers["clips.test"] = [[ALLOWED], [INTERNAL]]
    assert await servers.fetch("/hops/2") == CLIP
    assert names.num_lookups == 2  # a redirect within one host goes on over its connection


async def test_one_private_address_among_public_ones_spoils_all(
    servers: Servers, names: Names
) -> None:
    names.answers["clips.test"] = [[ALLOWED, INTERNAL]]
    with pytest.raises(ClipForbiddenError, match="not at a public address"):
        await servers.fetch("/clip.mp4")


async def test_an_unknown_name_and_a_strange_certificate(servers: Servers, names: Names) -> None:
    names.answers["localhost"] = [[ALLOWED]]
    with pytest.raises(ClipUnreachableError, match="has no address"):
        await servers.fetch("/", "odd.test", allowed_domains=(f"odd.test:{servers.port}",))
    with pytest.raises(ClipUnreachableError, match="certificate of localhost is not valid"):
        await servers.fetch("/clip.mp4", "localhost", ca_file=None)


async def test_by_default_nothing_is_fetched(servers: Servers) -> None:
    with pytest.raises(ClipForbiddenError, match="allowed_domains is empty"):
        await servers.fetch("/clip.mp4", allowed_domains=())


@pytest.mark.parametrize("url", ["https://[", "https://a:b", "https://a:99999/"])
async def test_what_is_no_url_is_a_wrong_field(servers: Servers, url: str) -> None:
    with pytest.raises(InvalidRequestError):
        await Fetcher(servers.settings()).fetched(ClipSource(url=url))


@pytest.mark.parametrize(
    ("domain", "url", "is_allowed"),
    [
        ("a.org", "https://a.org/", True),
        ("a.org", "https://A.ORG:443/", True),
        ("a.org", "https://b.a.org/", False),
        ("a.org", "https://a.org.evil.com/", False),
        ("a.org", "https://a.org@evil.com/", False),
        ("a.org", "https://evil.com/?https://a.org/", False),
        ("a.org", "https://a.org:444/", False),
        ("*.a.org", "https://b.a.org/", True),
        ("*.a.org", "https://c.b.a.org/", True),
        ("*.a.org", "https://a.org/", False),
        ("*.a.org", "https://ba.org/", False),
        ("10.0.0.1", "https://10.0.0.1/", False),
        ("8.8.8.8", "https://8.8.8.8/", True),
    ],
)
def test_a_domain_means_that_domain(domain: str, url: str, is_allowed: bool) -> None:
    settings = UrlSettings(allowed_domains=(domain,))
    if is_allowed:
        check_url(URL(url), settings)
    else:
        with pytest.raises(ClipForbiddenError):
            check_url(URL(url), settings)


@pytest.mark.parametrize("domain", ["*", "*.", "https://a.org", "a.org/x", "A.org", ""])
def test_a_wrong_domain_stops_the_start(domain: str) -> None:
    with pytest.raises(ValueError, match="allowed_domains"):
        UrlSettings(allowed_domains=(domain,))


def test_a_missing_ca_file_stops_the_start(tmp_path: Path) -> None:
    urls = UrlSettings(allowed_domains=("a.org",), ca_file=tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match=r"none\.pem"):
        Fetcher(MediaSettings(urls=urls))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1%eth0"),
        *("fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:1::", "2001:db8::1"),
    ],
)
def test_an_address_that_is_not_the_internets_is_not_public(address: str) -> None:
    assert not is_public(address, ())


def test_a_public_address_is_and_a_network_can_be_allowed() -> None:
    assert is_public("8.8.8.8", ())
    assert is_public("2606:4700::1", ())
    assert is_public("10.1.2.3", (ip_network("10.1.0.0/16"),))
    assert not is_public("10.2.2.3", (ip_network("10.1.0.0/16"),))
