"""Refuses to start an unauthenticated server on a non-loopback address."""

import ipaddress

from serve_app.api_keys import KeyStore
from serve_app.errors import ConfigurationError
from serve_app.settings import AccessSettings


def check_exposure(host: str, access: AccessSettings) -> None:
    """Refuse a configuration that lets other machines ask without a key, unless `access.open` allows it.

    Args:
        host: address that Serve's proxy listens on.

    Raises:
        ConfigurationError: other machines can reach it, there are no keys, and `access.open` is false.
    """
    if KeyStore(access.keys_file).is_open and not access.open and not _is_loopback(host):
        raise ConfigurationError(
            f"http_options.host is {host}, which other machines can reach, and there are no API keys: "
            "set access.keys_file (`emotion-llama key` makes one), or access.open: true"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
