"""API keys and rate limits over a fake service: who is let in, what others are answered, how keys change."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from unit.test_api import QUESTION, FakeService

from serve_app import api_keys
from serve_app.api.app import create_api
from serve_app.api_keys import KEYS_VARIABLE, KeyStore, read_keys
from serve_app.cli import main
from serve_app.client import KEY_VARIABLE, Target
from serve_app.client import open_client as open_our_client
from serve_app.deployments import ingress
from serve_app.errors import ConfigurationError, RateLimitedError, UnauthorizedError
from serve_app.exposure import check_exposure
from serve_app.settings import AccessSettings, AppSettings

KEY = "el-secret"
EXPIRED = "el-expired"


def entry(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **more}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    old = entry("old", EXPIRED, expires="2020-01-01T00:00:00Z")
    path.write_text(json.dumps({"keys": [entry("alice", KEY), old]}))
    return path


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def open_client(service: FakeService, **access: Any) -> TestClient:
    settings = AppSettings(model=Path("/m"), access=AccessSettings.model_validate(access))
    return TestClient(create_api(service, settings), raise_server_exceptions=False)


@pytest.fixture
def client(service: FakeService, keys_file: Path) -> Iterator[TestClient]:
    with open_client(service, keys_file=keys_file) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY} "},
        # OpenAI's client always sends the first.
        {"Authorization": "Bearer none", "X-API-Key": KEY},
    ],
)
def test_a_key_opens_by_either_header(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/process_video", json=QUESTION, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": EXPIRED},
        {"X-API-Key": hashlib.sha256(KEY.encode()).hexdigest()},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong", "X-API-Key": "wrong"},
        {b"X-API-Key": b"\xff\xfe"},
    ],
)
def test_everything_else_is_401(client: TestClient, service: FakeService, headers: Any) -> None:
    response = client.post("/process_video", json=QUESTION, headers=headers)
    assert response.status_code == 401
    assert response.json() == {"error": "Invalid API key"}
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert KEY not in response.text
    assert not service.asked


def test_a_401_under_v1_is_openais_object(client: TestClient) -> None:
    error = client.post("/v1/emotions", json={}).json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")


def test_probes_need_no_key_and_documents_do(client: TestClient) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code in (200, 503)
    assert client.get("/openapi.json").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/process_video", 401),
        ("OPTIONS", "/process_video", 401),
        ("POST", "/healthz", 401),
        ("GET", "/healthz", 200),  # not even what comes with a probe
    ],
)
def test_a_strangers_body_is_not_read(
    client: TestClient, method: str, path: str, status: int
) -> None:
    def body() -> Iterator[bytes]:
        yield b"x"
        raise AssertionError("the body was read")

    assert client.request(method, path, content=body()).status_code == status


def test_under_a_prefix_probes_need_no_key_and_errors_keep_their_form(
    service: FakeService, keys_file: Path
) -> None:
    settings = AppSettings(model=Path("/m"), access=AccessSettings(keys_file=keys_file))
    api = create_api(service, settings)
    with TestClient(api, raise_server_exceptions=False, root_path="/pre") as client:
        assert client.get("/pre/healthz").status_code == 200
        assert client.post("/pre/v1/emotions", json={}).json()["error"]["code"] == "invalid_api_key"
        headers = {"X-API-Key": KEY}
        assert client.post("/pre/v1/emotions", json={}, headers=headers).status_code == 400
        malformed = client.post("/pre/api/predict", json={}, headers=headers)
        assert malformed.json()["detail"][0]["type"] == "missing"


def test_keys_change_while_the_server_runs(
    client: TestClient, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "CHECK_EVERY_S", 0.0)

    def status(key: str) -> int:
        return client.post("/process_video", json=QUESTION, headers={"X-API-Key": key}).status_code

    assert (status(KEY), status("el-new")) == (200, 401)
    keys_file.write_text(json.dumps({"keys": [entry("bob", "el-new")]}))
    os.utime(keys_file, ns=(time.time_ns(), time.time_ns()))
    assert (status(KEY), status("el-new")) == (401, 200)
    keys_file.write_text("broken")  # as a half-written file: it changes nothing about who is let in
    os.utime(keys_file, ns=(time.time_ns() + 1, time.time_ns() + 1))
    assert (status(KEY), status("el-new")) == (401, 200)


def test_keys_may_come_from_the_environment(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, json.dumps({"keys": [entry("ci", KEY)]}))
    with open_client(service) as client:
        assert client.post("/process_video", json=QUESTION).status_code == 401
        headers = {"X-API-Key": KEY}
        assert client.post("/process_video", json=QUESTION, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r'expected \{"keys": \[...\]\}'),
        ("{", "is not JSON"),
        ('{"keys": [{"name": "a", "sha256": "abc"}]}', "keys.0.sha256"),
        (json.dumps({"keys": [entry("a", "x", rate="often")]}), "no rate; write 10/minute"),
        (json.dumps({"keys": [entry("a", "x", expires="2027-01-01T00:00:00")]}), "no time zone"),
        (json.dumps({"keys": [entry("a", "x", colour="red")]}), "keys.0.colour"),
        (json.dumps({"keys": [entry("a", "x"), entry("a", "y")]}), "two keys have one name"),
    ],
)
def test_a_wrong_file_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        KeyStore(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        KeyStore(tmp_path / "none.json")


def test_the_command_makes_a_key_that_opens(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    assert main(["key", "alice", "--file", str(path)]) == 0
    assert main(["key", "bob", "--file", str(path), "--rate", "2/minute"]) == 0
    alice, bob = capsys.readouterr().out.split()
    assert path.stat().st_mode & 0o777 == 0o600
    assert alice not in path.read_text()
    with open_client(service, keys_file=path) as client:
        for key in (alice, bob):
            headers = {"X-API-Key": key}
            assert client.post("/process_video", json=QUESTION, headers=headers).status_code == 200
    assert main(["key", "bob", "--file", str(path)]) == 2
    assert "name 'bob' already" in capsys.readouterr().err
    assert main(["key", "carol", "--file", str(path), "--rate", "often"]) == 2


def test_a_limit_is_told_and_kept(service: FakeService) -> None:
    with open_client(service, rate="3/minute") as client:
        responses = [client.post("/process_video", json=QUESTION) for _ in range(4)]
    assert [r.status_code for r in responses] == [200, 200, 200, 429]
    assert [r.headers["X-RateLimit-Remaining"] for r in responses] == ["2", "1", "0", "0"]
    first, last = responses[0], responses[-1]
    assert first.headers["X-RateLimit-Limit"] == "3"
    assert first.headers["RateLimit-Policy"] == '"default";q=3;w=60'
    assert first.headers["RateLimit"].startswith('"default";r=2;t=')
    assert last.json() == {"error": "Rate limit exceeded: 3 per 1 minute"}
    assert 1 <= int(last.headers["Retry-After"]) <= 60
    assert len(service.asked) == 3


def test_a_key_has_its_own_limit_and_its_own_count(service: FakeService, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = [entry("fast", "el-fast", rate="100/minute"), entry("a", "el-a"), entry("b", "el-b")]
    path.write_text(json.dumps({"keys": keys}))
    with open_client(service, keys_file=path, rate="1/minute") as client:

        def statuses(key: str) -> list[int]:
            headers = {"X-API-Key": key}
            posts = (client.post("/process_video", json=QUESTION, headers=headers) for _ in "12")
            return [response.status_code for response in posts]

        assert statuses("el-a") == [200, 429]
        assert statuses("el-b") == [200, 429]
        assert statuses("el-fast") == [200, 200]
        # A request without a valid key is not counted, and its answer does not name the limit.
        assert "X-RateLimit-Limit" not in client.post("/process_video", json=QUESTION).headers


@pytest.mark.parametrize(
    ("host", "starts"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("example.org", False),
    ],
)
def test_without_keys_only_this_machine_is_served(host: str, starts: bool, keys_file: Path) -> None:
    check_exposure("0.0.0.0", AccessSettings(keys_file=keys_file))
    check_exposure("0.0.0.0", AccessSettings(open=True))
    if starts:
        check_exposure(host, AccessSettings())
        return
    with pytest.raises(ConfigurationError, match=f"host is {host}, .* no API keys"):
        check_exposure(host, AccessSettings())


def test_a_replica_refuses_to_serve_strangers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "_proxy_host", lambda: "0.0.0.0")
    ours: Any = ingress.Ingress.__mro__[1]  # the class that Serve's decorator wrapped
    with pytest.raises(ConfigurationError, match="no API keys"):
        ours(None, None, AppSettings(model=Path("/m")))


def test_keys_that_are_added_at_once_are_all_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "keys.json", tmp_path / "link.json"
    link.symlink_to(path)
    names = [f"user{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: main(["key", name, "--file", str(link)]), names))
    assert sorted(key.name for key in read_keys(path)) == sorted(names)
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o600
    assert main(["key", "x", "--file", str(tmp_path / "none" / "keys.json")]) == 1


def test_web_pages_of_the_named_origins_may_call(service: FakeService, keys_file: Path) -> None:
    ours, other = "https://app.example.org", "https://evil.example.org"
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-API-Key",
    }
    with open_client(service, keys_file=keys_file, cors_origins=(ours,)) as client:
        allowed = client.options("/process_video", headers={"Origin": ours, **preflight})
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == ours
        refused = client.options("/process_video", headers={"Origin": other, **preflight})
        assert "Access-Control-Allow-Origin" not in refused.headers
        # A refusal has the CORS headers, too, so that a web page can read the reason.
        stranger = client.post("/process_video", json=QUESTION, headers={"Origin": ours})
        assert stranger.status_code == 401
        assert stranger.headers["Access-Control-Allow-Origin"] == ours
    with open_client(service) as client:
        silent = client.post("/process_video", json=QUESTION, headers={"Origin": ours})
        assert "Access-Control-Allow-Origin" not in silent.headers


def test_our_own_client_sends_the_key_of_its_environment_and_reads_refusals(
    service: FakeService, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = AccessSettings(keys_file=keys_file, rate="1/minute")
    api = create_api(service, AppSettings(model=Path("/m"), access=access))
    served = partial(httpx.AsyncClient, transport=httpx.ASGITransport(api))
    monkeypatch.setattr(httpx, "AsyncClient", served)

    async def ask() -> None:
        async with open_our_client(Target()) as ours:
            await ours.answer(QUESTION)

    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(UnauthorizedError, match=KEY_VARIABLE):
        asyncio.run(ask())
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    asyncio.run(ask())
    assert len(service.asked) == 1
    with pytest.raises(RateLimitedError, match="1 per 1 minute"):
        asyncio.run(ask())
