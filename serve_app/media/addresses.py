"""Which hosts a clip may be fetched from: allowed domains at public addresses."""

import asyncio
import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from serve_app.errors import ClipForbiddenError, ClipUnreachableError
from serve_app.settings import IpNetwork, UrlSettings

HTTPS_PORT = 443

# Addresses in these networks embed an IPv4 address that a gateway may connect to: NAT64 (RFC 6052,
# RFC 8215), 6to4 (RFC 3056) and IPv4-compatible (RFC 4291). ipaddress itself handles IPv4-mapped and Teredo.
EMBEDDING_IPV4 = tuple(
    map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::/96"))
)


def check_url(url: URL, settings: UrlSettings) -> None:
    """Check a URL before it is fetched.

    Raises:
        ClipForbiddenError: not https, with a user or password, not an allowed domain, or a private address.
    """
    if not settings.allowed_domains:
        raise ClipForbiddenError("this server fetches no URLs: media.urls.allowed_domains is empty")
    if url.scheme != "https" or url.raw_host is None:
        raise ClipForbiddenError(f"a clip is fetched by https; this URL begins with {url.scheme}:")
    if url.user is not None or url.password is not None:
        raise ClipForbiddenError("the URL holds a user or a password; the server sends neither")
    if not any(_matches(url, domain) for domain in settings.allowed_domains):
        raise ClipForbiddenError(f"{_named(url)} is not a domain clips may be fetched from")
    if _is_private_literal(url.raw_host, settings):
        raise ClipForbiddenError(f"{_named(url)} is not a public address")


def _is_private_literal(host: str, settings: UrlSettings) -> bool:
    """Whether the host is a private IP address. Those need no look-up, so the resolver never sees them."""
    try:
        return not is_public(host, settings.allowed_networks)
    except ValueError:
        return False  # a name


def _matches(url: URL, domain: str) -> bool:
    """Whether an allowed domain covers a URL. `*.example.org` covers its subdomains; the port is 443 unless
    the domain names another."""
    name, _, port = domain.partition(":")
    if (url.port or HTTPS_PORT) != int(port or HTTPS_PORT):
        return False
    assert url.raw_host is not None
    host = url.raw_host.lower()
    return host.endswith(name[1:]) if name.startswith("*.") else host == name


def _named(url: URL) -> str:
    port = "" if url.port in (None, HTTPS_PORT) else f":{url.port}"
    return f"{url.raw_host}{port}"


def is_public(address: str, allowed: tuple[IpNetwork, ...]) -> bool:
    """Whether an address is public, or in a network that the settings allow."""
    ip = ipaddress.ip_address(address)
    if any(ip in network for network in allowed):
        return True
    if any(ip in network for network in EMBEDDING_IPV4):
        return False
    return ip.is_global and not ip.is_multicast


class PinningResolver(AbstractResolver):
    """Resolves a name once and refuses it unless all its addresses are public.

    aiohttp connects to exactly these addresses, so the name cannot be rebound to another one in between.
    """

    def __init__(self, settings: UrlSettings) -> None:
        self._allowed = settings.allowed_networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        except (OSError, UnicodeError) as error:
            raise ClipUnreachableError(f"{host} has no address: {error}") from error
        # One private address refuses the name: mixing them is a way to attack internal hosts.
        if not all(is_public(str(address[0]), self._allowed) for *_, address in found):
            raise ClipForbiddenError(f"{host} is not at a public address")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing to close."""
