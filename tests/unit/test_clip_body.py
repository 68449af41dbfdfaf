"""The forms a request with a clip may have, over a fake service: what reaches it, and what is refused."""

import asyncio
import base64
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from unit.test_api import FakeService

from serve_app.api.app import create_api
from serve_app.settings import AppSettings, LimitSettings

CLIP = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 20
FILE = {"file": ("a.mp4", CLIP, "video/mp4")}
URL = "data:video/mp4;base64," + base64.b64encode(CLIP).decode()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[TestClient]:
    limits = LimitSettings(max_body_bytes=20_000_000, max_buffered_bytes=30_000_000)
    api = create_api(service, AppSettings(model=Path("/m"), limits=limits))
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


def test_a_form_brings_the_clip_along(client: TestClient, service: FakeService) -> None:
    fields = {"question": "What?", "temperature": "0", "frame": "1.5", "details": "true"}
    response = client.post("/process_video", data=fields, files=FILE)
    assert response.status_code == 200, response.text
    assert response.json()["details"]["token_ids"] == [5]
    (asked,) = service.asked
    assert (asked.source.data, asked.source.path) == (CLIP, None)
    assert asked.sampling.temperature == 0
    assert asked.decode_options.frame == 1.5


def test_a_form_may_hold_labels(client: TestClient, service: FakeService) -> None:
    fields = {"labels": json.dumps(["calm", "tense"]), "frame": "middle"}
    client.post("/v1/emotions", data=fields, files=FILE).raise_for_status()
    assert service.scored[0].labels == ("calm", "tense")
    assert service.scored[0].source.data == CLIP


@pytest.mark.parametrize(
    "kind", ["video/mp4", "audio/wav", "application/octet-stream", "VIDEO/MP4"]
)
def test_the_clip_may_be_the_body(client: TestClient, service: FakeService, kind: str) -> None:
    fields = {"question": "What?", "max_tokens": "7"}
    response = client.post(
        "/process_video", content=CLIP, headers={"Content-Type": kind}, params=fields
    )
    assert response.status_code == 200, response.text
    assert service.asked[0].source.data == CLIP
    assert service.asked[0].sampling.max_tokens == 7


@pytest.mark.parametrize("path", ["/process_video", "/api/predict"])
def test_a_data_url_stands_for_a_path(client: TestClient, service: FakeService, path: str) -> None:
    body: Any = {"video_path": URL, "question": "?"}
    client.post(path, json={"data": [URL, "?"]} if "predict" in path else body).raise_for_status()
    assert service.asked[0].source.data == CLIP


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"json": {"video_path": "data:video/mp4,abc"}}, "without base64"),
        ({"json": {"video_path": "data:;base64,a$$"}}, "not base64"),
        ({"files": {"other": CLIP}, "data": {"question": "?"}}, "no file in its field 'file'"),
        ({"files": FILE, "data": {"video_path": "/a.mp4"}}, "one of the two"),
        ({"files": FILE, "data": {"colour": "red"}}, "colour"),
        ({"files": [("file", CLIP), ("file", CLIP)]}, "form is broken: Too many files"),
        (
            {"content": b"--x\r\nContent-Disposition: form-data; name=", "headers": "x"},
            "no file in its field",
        ),
        ({"content": b"nonsense", "headers": "x"}, "the form is broken"),
    ],
)
def test_a_wrong_form_is_refused(
    client: TestClient, service: FakeService, request_: dict[str, Any], message: str
) -> None:
    arguments = dict(request_)
    if "headers" in arguments:
        arguments["headers"] = {"Content-Type": "multipart/form-data; boundary=x"}
    if "json" in arguments:
        arguments["json"] = {"question": "?", **arguments["json"]}
    response = client.post("/process_video", **arguments)
    assert response.status_code == 422, response.text
    assert message in response.json()["details"]
    assert not service.asked


def test_another_content_type_is_415(client: TestClient) -> None:
    response = client.post("/process_video", content=b"x", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415
    assert "text/plain" in response.json()["details"]


def test_an_upload_touches_no_disk(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is larger than what a form parser would spool to a file."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was opened for an upload")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    big = {"file": ("a.mp4", os.urandom(5_000_000), "video/mp4")}
    assert client.post("/process_video", data={"question": "?"}, files=big).status_code == 200


async def test_bodies_that_fill_the_buffer_together_are_refused(service: FakeService) -> None:
    limits = LimitSettings(max_body_bytes=20_000_000, max_buffered_bytes=12_000_000)
    gate = asyncio.Event()
    answer = service.answer

    async def wait_then_answer(request: Any) -> Any:
        await gate.wait()
        return await answer(request)

    service.answer = wait_then_answer  # type: ignore[method-assign]
    api = create_api(service, AppSettings(model=Path("/m"), limits=limits))
    transport = httpx.ASGITransport(app=api)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        headers = {"Content-Type": "video/mp4"}

        async def post() -> httpx.Response:
            return await http.post(
                "/process_video?question=x", content=b"x" * 5_000_000, headers=headers
            )

        held = [asyncio.create_task(post()) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await post()
        assert refused.status_code == 503
        assert "12000000 bytes in all" in refused.json()["details"]
        gate.set()
        assert [(await task).status_code for task in held] == [200, 200]
        assert (await post()).status_code == 200  # their buffers were released


@pytest.mark.parametrize(("pace", "status"), [(20_000, 200), (200, 408)])
async def test_a_slow_body_may_take_its_time_and_a_trickle_may_not(
    service: FakeService, pace: int, status: int
) -> None:
    """The body takes half a second. The limit is 0.2 s, and 1000 bytes earn 0.1 s more."""
    limits = LimitSettings(body_timeout_s=0.2, min_body_bytes_per_s=10_000)
    api = create_api(service, AppSettings(model=Path("/m"), limits=limits))

    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * (pace // 20)
            await asyncio.sleep(0.05)

    transport = httpx.ASGITransport(app=api)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        response = await http.post(
            "/process_video?question=x", content=body(), headers={"Content-Type": "video/mp4"}
        )
    assert response.status_code == status, response.text


@pytest.mark.parametrize("form", ["json", "form"])
def test_fields_in_the_query_are_refused_beside_other_bodies(
    client: TestClient, service: FakeService, form: str
) -> None:
    """They used to be ignored."""
    asked: Any = {"json": {"video_path": "/a.mp4", "question": "?"}}
    sent = {"data": {"question": "?"}, "files": FILE} if form == "form" else asked
    response = client.post("/process_video", params={"temperature": "0", "other": "1"}, **sent)
    assert response.status_code == 422
    assert "'temperature' is in the query" in response.json()["details"]
    client.post("/process_video", params={"other": "1"}, **sent).raise_for_status()
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": "0"}, {"seed": "3"}, {"details": "yes"}, {"voice": 1}, {"top_k": 1.5}],
    ids=str,
)
def test_json_says_numbers_and_booleans_as_such(client: TestClient, wrong: dict[str, Any]) -> None:
    body = {"video_path": "/a.mp4", "question": "?"}
    response = client.post("/process_video", json=body | wrong)
    assert response.status_code == 422
    assert next(iter(wrong)) in response.json()["details"]


def test_a_whole_number_may_have_a_point(client: TestClient, service: FakeService) -> None:
    whole = {"seed": 3.0, "max_tokens": 7.0, "top_k": 0.0}
    body = {"video_path": "/a.mp4", "question": "?"}
    client.post("/process_video", json=body | whole).raise_for_status()
    sampling = service.asked[0].sampling
    assert (sampling.seed, sampling.max_tokens, sampling.top_k) == (3, 7, 0)


def test_a_feature_beyond_float32_is_refused(client: TestClient) -> None:
    """It used to become infinite."""
    features = {"features": {"face_feature": [1e39]}}
    body = {"video_path": "/a.mp4", "question": "?"}
    response = client.post("/process_video", json=body | features)
    assert response.status_code == 422
    assert "features.face_feature.0" in response.json()["details"]
