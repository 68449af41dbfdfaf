"""The original's routes over a fake service: Gradio's bodies, and both forms of errors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from unit.test_api import FakeService

from serve_app.api.app import create_api
from serve_app.api.paths import PREDICT
from serve_app.errors import ClipNotFoundError, ClipOverLimitError
from serve_app.settings import AppSettings

DATA = {"data": ["/clips/a.mp4", "[emotion] What?"]}
KEYS = [
    "data",
    "is_generating",
    "duration",
    "average_duration",
    "render_config",
    "changed_state_ids",
]


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def open_client(service: FakeService, **settings: Any) -> TestClient:
    api = create_api(service, AppSettings(model=Path("/m"), **settings))
    return TestClient(api, raise_server_exceptions=False)


@pytest.fixture
def client(service: FakeService) -> Iterator[TestClient]:
    with open_client(service) as client:
        yield client


@pytest.mark.parametrize("path", PREDICT)
def test_gradios_routes_give_gradios_six_keys(
    client: TestClient, service: FakeService, path: str
) -> None:
    response = client.post(path, json=DATA, follow_redirects=False)
    body = response.json()
    assert response.status_code == 200
    assert list(body) == KEYS
    assert body["data"] == ["happy"]
    assert 0 < body["duration"] < 5
    assert body["average_duration"] == body["duration"]
    assert (body["is_generating"], body["render_config"], body["changed_state_ids"]) == (
        False,
        None,
        [],
    )
    assert (service.asked[0].source.path, service.asked[0].question) == tuple(DATA["data"])


def test_the_average_is_over_all_calls(client: TestClient) -> None:
    bodies = [client.post("/api/predict/", json=DATA).json() for _ in range(3)]
    mean = sum(body["duration"] for body in bodies) / 3
    assert bodies[-1]["average_duration"] == pytest.approx(mean)


def test_gradios_other_fields_and_further_inputs_are_ignored(
    client: TestClient, service: FakeService
) -> None:
    more = {"data": [*DATA["data"], "more"], "session_hash": "s", "fn_index": 0}
    assert client.post("/api/predict", json=more).status_code == 200
    assert service.asked[0].question == "[emotion] What?"


@pytest.mark.parametrize(
    ("content", "kind", "loc"),
    [
        (b"{}", "missing", ["body", "data"]),
        (b"{", "json_invalid", None),
        (b'{"data": ["/clips/a.mp4"]}', "string_type", ["body", "data", "question"]),
        (b'{"data": [1, "What?"]}', "string_type", ["body", "data", "video_path"]),
        (b'{"data": NaN}', "list_type", ["body", "data"]),
        (b'{"data": ["/a.mp4", "\\ud800"]}', "value_error", ["body", "data", "question"]),
    ],
)
def test_a_malformed_body_is_gradios_422(
    client: TestClient, service: FakeService, content: bytes, kind: str, loc: list[str] | None
) -> None:
    headers = {"Content-Type": "application/json"}
    response = client.post("/api/predict/", content=content, headers=headers)
    (problem,) = response.json()["detail"]
    assert response.status_code == 422
    assert response.headers["X-Error-Code"] == "invalid_request"
    assert problem["type"] == kind
    assert loc is None or problem["loc"] == loc
    assert not service.asked


def test_a_get_is_gradios_405(client: TestClient) -> None:
    response = client.get("/api/predict/")
    assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/api/predict/", "/process_video"])
def test_an_error_has_its_true_status_and_is_a_string(
    client: TestClient, service: FakeService, path: str
) -> None:
    service.error = ClipNotFoundError("no file at /clips/a.mp4")
    body = (
        DATA
        if "predict" in path
        else dict(zip(("video_path", "question"), DATA["data"], strict=True))
    )
    response = client.post(path, json=body)
    assert response.status_code == 404
    assert response.json()["error"] == "Video file not found"


def test_the_originals_in_band_errors_can_be_had_back(service: FakeService) -> None:
    missing = "\u9519\u8bef\uff1a\u89c6\u9891\u6587\u4ef6\u4e0d\u5b58\u5728\u3002"
    body = {"video_path": "/clips/a.mp4", "question": "?"}
    with open_client(service, legacy_errors="in_band") as client:
        service.error = ClipNotFoundError("no file at /clips/a.mp4")
        answers = [client.post("/process_video", json=body), client.post("/api/predict", json=DATA)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == {"response": missing}
        assert answers[1].json()["data"] == [missing]
        assert list(answers[1].json()) == KEYS
        service.error = ClipOverLimitError("clip lasts 61.0 s; the limit is 60.0 s")
        other = client.post("/process_video", json=body)
        assert other.status_code == 200
        assert "61.0 s" in other.json()["error"]
        # Only where the original did so.
        assert client.post("/v1/emotions", json={"video_path": "/a.mp4"}).status_code == 422
