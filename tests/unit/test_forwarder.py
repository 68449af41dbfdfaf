"""A further port on real sockets: what goes in comes out, and both ends learn when the other is gone."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from lib.ports import free_port

from serve_app.forwarder import forwarding

HOST = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


@dataclass
class Echo:
    """A server that gives back what it gets, and notes when a client has left."""

    port: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What was given back and not yet read makes a closing a reset.
        with suppress(ConnectionResetError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
                if data.endswith(b"bye"):
                    break
        self.left.set()
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, HOST, 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@pytest.fixture
async def port(echo: Echo) -> AsyncIterator[int]:
    port = free_port()
    with forwarding(HOST, [port], echo.port):
        yield port


async def test_bytes_go_there_and_back(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    sent = bytes(range(256)) * 40_000  # more than every buffer on the way holds
    writing = asyncio.create_task(_send(writer, sent))
    assert await reader.readexactly(len(sent)) == sent
    await writing
    writer.close()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_client_that_leaves_has_left_the_server(echo: Echo, port: int, how: str) -> None:
    _, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"hello")
    await writer.drain()
    if how == "resets":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()
    await asyncio.wait_for(echo.left.wait(), 5)


async def test_a_server_that_closes_ends_the_client(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"bye")
    assert await asyncio.wait_for(reader.read(), 5) == b"bye"
    writer.close()


async def test_without_a_server_the_client_is_turned_away() -> None:
    port = free_port()
    with forwarding(HOST, [port], free_port()):
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_taken_port_is_an_error_and_a_left_one_is_free_again(echo: Echo) -> None:
    port = free_port()
    with pytest.raises(OSError, match="in use"), forwarding(HOST, [port, echo.port], echo.port):
        pass
    with forwarding(HOST, [port], echo.port):
        await asyncio.open_connection(HOST, port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)
