"""Finds ports for servers that scripts and tests start."""

import socket


def free_port() -> int:
    """A port on loopback on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
