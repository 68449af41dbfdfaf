"""Forwards further ports to the server's port: copies bytes both ways without interpreting them."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

CHUNK_BYTES = 1 << 16


@contextmanager
def forwarding(host: str, ports: Sequence[int], server_port: int) -> Iterator[None]:
    """Forward connections to any of `ports` to `server_port` until the block ends.

    Raises:
        OSError: a port is taken.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="forwarder", daemon=True)
    thread.start()
    try:
        for port in ports:
            asyncio.run_coroutine_threadsafe(_listen(host, port, server_port), loop).result()
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _listen(host: str, port: int, server_port: int) -> None:
    async def connected(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        with closing(answers), suppress(OSError):
            server, requests = await asyncio.open_connection(host, server_port, limit=CHUNK_BYTES)
            with closing(requests):
                asking = asyncio.create_task(_carry(client, requests))
                try:
                    await _carry(server, answers)
                finally:
                    asking.cancel()  # once the server has closed, nobody listens

    await asyncio.start_server(connected, host, port, limit=CHUNK_BYTES)


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy from source to target at the target's pace, and pass on the end of the stream."""
    try:
        while chunk := await source.read(CHUNK_BYTES):
            target.write(chunk)
            await target.drain()
        target.write_eof()
    except OSError:
        target.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
