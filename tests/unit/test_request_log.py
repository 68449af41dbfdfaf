"""A request's log line: what happened to the request, and nothing of its content."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from unit.test_access import KEY, entry
from unit.test_api import FakeService

from serve_app.api.app import create_api
from serve_app.errors import ClipNotFoundError
from serve_app.settings import AccessSettings, AppSettings

SECRET = "something private"
BODY = {"video_path": "/clips/private.mp4", "question": SECRET}


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService, tmp_path: Path) -> Iterator[TestClient]:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [entry("alice", KEY)]}))
    settings = AppSettings(model=Path("/m"), access=AccessSettings(keys_file=keys))
    headers = {"X-API-Key": KEY, "X-Request-Id": "r1"}
    yield TestClient(create_api(service, settings), raise_server_exceptions=False, headers=headers)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "serve_app.requests")

    def read() -> list[dict[str, Any]]:
        text = [r.getMessage() for r in caplog.records if r.name == "serve_app.requests"]
        assert not any(SECRET in line or "private" in line or KEY in line for line in text)
        return [json.loads(line) for line in text]

    return read


def test_an_answer_leaves_its_times_and_tokens(client: TestClient, lines: Any) -> None:
    client.post("/process_video", json=BODY)
    (line,) = lines()
    assert line["request_id"] == "r1"
    assert (line["method"], line["route"], line["status"]) == ("POST", "/process_video", 200)
    assert (line["key"], line["prompt_tokens"], line["cached_tokens"]) == ("alice", 2, 0)
    assert line["total_ms"] == 1.0
    assert line["elapsed_ms"] > 0
    assert "error_code" not in line


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_chat_leaves_its_tokens(client: TestClient, lines: Any, is_stream: bool) -> None:
    part = {"type": "video_url", "video_url": BODY["video_path"]}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": SECRET}]}]
    body = {"model": "emotion-llama", "messages": messages, "stream": is_stream}
    client.post("/v1/chat/completions", json=body)
    (line,) = lines()
    assert (line["route"], line["status"]) == ("/v1/chat/completions", 200)
    assert line["prompt_tokens"] == 2


def test_a_refusal_leaves_its_code(client: TestClient, service: FakeService, lines: Any) -> None:
    service.error = ClipNotFoundError("no file at /clips/private.mp4")
    client.post("/process_video", json=BODY)
    client.post("/process_video", json=BODY, headers={"X-API-Key": "wrong"})
    client.post("/private/place", json=BODY)
    service.error = RuntimeError("about something else")
    client.post("/process_video", json=BODY)
    missing, stranger, unknown, bug = lines()
    assert (bug["status"], bug["error_code"], bug["request_id"]) == (500, "internal_error", "r1")
    assert (missing["status"], missing["error_code"]) == (404, "clip_not_found")
    assert (stranger["status"], stranger["error_code"]) == (401, "invalid_api_key")
    assert "key" not in stranger
    assert (unknown["status"], unknown["route"]) == (404, None)
