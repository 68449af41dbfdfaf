"""An https host on loopback that serves one clip, and redirects to wherever it is asked to."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from aiohttp import web
from lib.ports import free_port

ADDRESS = "127.0.0.1"  # of localhost; the server under test may fetch from here
INTERNAL = "127.0.0.2"  # the same host by another address, which it may not


@dataclass(frozen=True, slots=True)
class ClipHost:
    """Where it will listen, and who vouches for it."""

    port: int
    authority: trustme.CA
    ca_file: Path

    @classmethod
    def create(cls, folder: Path) -> "ClipHost":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        return cls(free_port(), authority, folder / "ca.pem")

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @asynccontextmanager
    async def listening(self, clip: bytes, answer_after_s: float = 0.0) -> AsyncIterator[list[str]]:
        """Yields the requests as they come, by the address that each of them used."""
        came: list[str] = []

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            assert request.transport is not None
            came.append(request.transport.get_extra_info("sockname")[0])
            target = request.query.get("to")
            if target is not None:
                return web.Response(status=302, headers={"Location": target})
            await asyncio.sleep(answer_after_s)
            return web.Response(body=clip)

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost", ADDRESS, INTERNAL).configure_cert(tls)
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        for address in (ADDRESS, INTERNAL):
            await web.TCPSite(runner, address, self.port, ssl_context=tls).start()
        yield came
        await runner.cleanup()
