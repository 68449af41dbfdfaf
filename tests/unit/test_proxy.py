"""The gate in Serve's proxy, over an application that reads as fast as it can, as Serve does."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve_app import proxy
from serve_app.proxy import BodyGate, middlewares

LIMIT = 1000
CHUNK = {"type": "http.request", "body": b"x" * 400, "more_body": True}
END = {"type": "http.request", "body": b"x", "more_body": False}
LEFT = {"type": "http.disconnect"}


class Client:
    """Sends its messages one by one, and keeps the messages it receives."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        await asyncio.sleep(0)
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def num_unread(self) -> int:
        return len(self._messages)


class App:
    """Answers when it has read enough, like a replica; says 499 to a client that left, like Serve."""

    def __init__(self, num_messages: int) -> None:
        self._num_messages = num_messages
        self.read: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 200
        for _ in range(self._num_messages):
            message = await receive()
            self.read.append(message)
            if message["type"] == "http.disconnect":
                status = 499
                break
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})


async def ask(app: App, client: Client, headers: dict[str, str] | None = None) -> None:
    pairs = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/x", "headers": pairs}
    await BodyGate(app, LIMIT)(scope, client.receive, client.send)


CHUNKED = {"transfer-encoding": "chunked"}


async def test_a_body_within_the_limit_goes_through_untouched() -> None:
    app, client = App(2), Client(CHUNK, END)
    await ask(app, client, CHUNKED)
    assert app.read == [CHUNK, END]
    assert client.status == 200 and b"connection" not in client.headers
    assert [m.get("body") for m in client.sent[1:]] == [b"answer"]


async def test_a_declared_length_over_the_limit_reaches_nobody() -> None:
    app, client = App(1), Client(CHUNK, LEFT)
    await ask(app, client, {"content-length": "1001"})
    assert not app.read
    assert client.status == 413
    assert client.headers[b"connection"] == b"close"
    assert len(client.headers[b"x-request-id"]) == 32


async def test_a_body_that_grows_over_the_limit_ends_there() -> None:
    app, client = App(5), Client(CHUNK, CHUNK, CHUNK, CHUNK, END)
    await ask(app, client, CHUNKED)
    assert app.read == [CHUNK, CHUNK, LEFT]
    assert client.status == 413  # and not Serve's 499
    assert not client.num_unread  # it was read to its end before the connection was closed
    assert client.sent[-1] == {"type": "http.response.body"}


async def test_an_early_answer_closes_a_connection_whose_body_never_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy, "LINGER_S", 0.1)
    app, client = App(1), Client(CHUNK, CHUNK)
    await asyncio.wait_for(ask(app, client, CHUNKED), 5)
    assert client.status == 200
    assert client.headers[b"connection"] == b"close"
    assert client.sent[1] == {"type": "http.response.body", "body": b"answer", "more_body": True}


async def test_a_request_without_a_body_keeps_its_connection() -> None:
    client = Client()
    await ask(App(0), client)
    assert b"connection" not in client.headers


def test_the_limit_comes_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(proxy.MAX_BODY_BYTES_VARIABLE, "7")
    (gate,) = middlewares()
    assert gate.kwargs["max_body_bytes"] == 7


def test_the_proxy_loads_no_route() -> None:
    code = "import sys, serve_app.proxy; print('serve_app.api.clip_question' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
