"""The routes over a fake service: bodies, statuses, limits. tests/serve has the real one."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.api.app import create_api
from serve_app.errors import ClipNotFoundError, OverloadedError
from serve_app.settings import AppSettings, LimitSettings
from serve_app.types import (
    Answer,
    AnswerDelta,
    AnswerRequest,
    CacheStatus,
    ClipSource,
    DecodeOptions,
    LabelScores,
    PromptOptions,
    Sampling,
    ScoreRequest,
    Usage,
)

QUESTION = {"video_path": "/clips/a.mp4", "question": "[emotion] What?"}
CLIP_PART = {"type": "video_url", "video_url": {"url": "/clips/a.mp4"}}
CHAT = {"model": "emotion-llama", "messages": [{"role": "user", "content": [CLIP_PART]}]}


class FakeService:
    """Records what it was asked and answers or raises what it was told to."""

    def __init__(self) -> None:
        self.is_ready = False
        self.error: Exception | None = None
        self.asked: list[AnswerRequest] = []
        self.cache: CacheStatus = None
        self.takes_s = 0.0
        self.scored: list[ScoreRequest] = []
        self.deltas: list[str] = ["hap", "py"]

    async def warm_up(self) -> None:
        await asyncio.sleep(0)
        self.is_ready = True

    async def answer(self, request: AnswerRequest) -> Answer:
        self.asked.append(request)
        await asyncio.sleep(self.takes_s)
        if self.error:
            raise self.error
        answer = Answer("happy", [5], [1, 5], "stop", Usage(2, 1, 0), {"total": 1.0})
        return replace(answer, cache=self.cache)

    async def stream(self, request: AnswerRequest) -> AsyncGenerator[AnswerDelta, None]:
        self.asked.append(request)
        for text in self.deltas:
            yield AnswerDelta(text, cache=self.cache)
        if self.error:
            raise self.error
        yield AnswerDelta("", "stop", Usage(2, len(self.deltas), 1))

    async def score(self, request: ScoreRequest) -> LabelScores:
        self.scored.append(request)
        await asyncio.sleep(self.takes_s)
        if self.error:
            raise self.error
        probabilities = dict.fromkeys(request.labels, 0.1) | {request.labels[-1]: 0.9}
        return LabelScores(
            probabilities, 0.5, Usage(2, 1, 0), {"total": 1.0}, cache=self.cache and "hit"
        )


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Iterator[TestClient]:
    limits = LimitSettings(max_body_bytes=2000, max_question_chars=100)
    api = create_api(service, AppSettings(model=Path("/m"), limits=limits))
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


def test_the_documented_body_gets_the_documented_answer(
    client: TestClient, service: FakeService
) -> None:
    response = client.post("/process_video", json=QUESTION)
    assert (response.status_code, response.json()) == (200, {"response": "happy"})
    (asked,) = service.asked
    assert (asked.source.path, asked.question) == ("/clips/a.mp4", "[emotion] What?")
    assert asked.decode_options == DecodeOptions("first", voice=False)
    assert asked.sampling == Sampling(0.2, 0.9, 50, 1.05, 500, None)


@pytest.mark.parametrize("url", ["https://a.org/a.mp4", "HTTPS://A.org/a.mp4?signature=x"])
def test_a_url_reaches_the_service_as_one(
    client: TestClient, service: FakeService, url: str
) -> None:
    client.post("/process_video", json=QUESTION | {"video_path": url}).raise_for_status()
    client.post("/api/predict/", json={"data": [url, "?"]}).raise_for_status()
    part = {"type": "video_url", "video_url": {"url": url}}
    chat = {"model": "emotion-llama", "messages": [{"role": "user", "content": [part]}]}
    client.post("/v1/chat/completions", json=chat).raise_for_status()
    assert [asked.source for asked in service.asked] == [ClipSource(url=url)] * 3


def test_optional_fields_reach_the_service(client: TestClient, service: FakeService) -> None:
    chosen = {"frame": 1.5, "voice": True, "temperature": 0, "max_tokens": 7, "seed": 3}
    response = client.post("/process_video", json=QUESTION | chosen | {"details": True})
    assert response.json()["details"]["token_ids"] == [5]
    (asked,) = service.asked
    assert asked.decode_options == DecodeOptions(1.5, voice=True)
    assert asked.sampling == Sampling(0, 0.9, 50, 1.05, 7, 3)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"question": None}, "question"),
        ({"temprature": 1}, "temprature"),
        ({"temperature": 3}, "temperature"),
        ({"frame": "last"}, "frame"),
        ({"frame": -1}, "frame"),
        ({"question": "x" * 101}, "101 characters; the limit is 100"),
        ({"video_path": "clips/a.mp4"}, "must be an absolute path"),
        ({"video_path": "http://a.org/a.mp4"}, "an https: URL"),
        ({"video_path": "file:///etc/passwd"}, "must be an absolute path"),
        ({"video_path": "/\ud800"}, "not valid Unicode"),
        ({"question": "\ud800"}, "not valid Unicode"),
    ],
    ids=[
        "not a string",
        "unknown",
        "out of range",
        "no such choice",
        "negative",
        "too long",
        "relative",
        "http",
        "file",
        "surrogate in the path",
        "surrogate in the question",
    ],
)
def test_a_wrong_field_is_named(
    client: TestClient, service: FakeService, change: dict[str, Any], where: str
) -> None:
    content = json.dumps(QUESTION | change)  # escapes what is not ASCII, unlike the client's json=
    as_json = {"Content-Type": "application/json"}
    response = client.post("/process_video", content=content, headers=as_json)
    body = response.json()
    assert response.status_code == body["code"] == 422
    assert body["error"] == "Invalid request"
    assert where in body["details"]
    assert not service.asked


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_not_a_json_object_is_a_422(client: TestClient, content: bytes) -> None:
    response = client.post("/process_video", content=content)
    assert response.status_code == 422
    assert set(response.json()) == {"error", "code", "details"}


def test_an_error_of_the_service_keeps_its_status(client: TestClient, service: FakeService) -> None:
    service.error = ClipNotFoundError("/clips/a.mp4 does not exist")
    response = client.post("/process_video", json=QUESTION)
    assert response.status_code == 404
    assert response.headers["X-Error-Code"] == "clip_not_found"
    assert response.json() == {
        "error": "Video file not found",
        "code": 404,
        "details": "/clips/a.mp4 does not exist",
    }


def test_a_full_server_says_when_to_come_back(client: TestClient, service: FakeService) -> None:
    service.error = OverloadedError("128 requests are in progress already")
    response = client.post("/process_video", json=QUESTION)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1


def test_a_bug_is_a_500_without_its_text(client: TestClient, service: FakeService) -> None:
    service.error = RuntimeError("secret path /home/x")
    for path in ("/process_video", "/v1/emotions"):
        body = QUESTION if path == "/process_video" else {"video_path": "/a.mp4"}
        response = client.post(path, json=body, headers={"X-Request-Id": "r1"})
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.headers["X-Request-Id"] == "r1"


@pytest.mark.parametrize("declared", [True, False], ids=["by its header", "while it arrives"])
def test_a_body_over_the_limit_is_cut_off(
    client: TestClient, service: FakeService, declared: bool
) -> None:
    body = b"x" * 5000
    content: Any = body if declared else iter([body])
    response = client.post("/process_video", content=content)
    assert response.status_code == 413
    assert "the limit is 2000" in response.json()["details"]
    assert response.headers["X-Error-Code"] == "body_too_large"
    assert not service.asked


def test_other_routes_and_methods_answer_in_the_same_form(client: TestClient) -> None:
    assert client.get("/nothing").json()["code"] == 404
    assert client.get("/process_video").json()["code"] == 405


def test_readiness_follows_the_warm_up(client: TestClient, service: FakeService) -> None:
    assert client.get("/healthz").status_code == 200
    service.is_ready = False
    assert client.get("/readyz").status_code == 503
    service.is_ready = True
    assert client.get("/readyz").json() == {"status": "ready"}


def test_emotions_are_the_labels_with_their_probabilities(
    client: TestClient, service: FakeService
) -> None:
    response = client.post("/v1/emotions", json={"video_path": "/clips/a.mp4"})
    body = response.json()
    assert (response.status_code, body["emotion"], body["confidence"]) == (200, "doubt", 0.9)
    assert body["probabilities"][0] == {"label": "happy", "probability": 0.1}
    assert body["label_mass"] == 0.5
    (asked,) = service.scored
    assert len(asked.labels) == 9
    assert asked.question.endswith("represents: " + ", ".join(asked.labels) + ".")
    assert asked.prompt_options == PromptOptions()


def test_emotions_may_be_asked_about_other_labels_with_another_question(
    client: TestClient, service: FakeService
) -> None:
    chosen = {"labels": ["calm", "tense"], "question": "Calm?", "parity": "reference"}
    client.post("/v1/emotions", json={"video_path": "/a.mp4", **chosen}).raise_for_status()
    assert service.scored[0].labels == ("calm", "tense")
    assert service.scored[0].question == "Calm?"
    assert service.scored[0].decode_options.audio_mode == "reference"


def test_emotions_can_be_explained_and_know_the_words(
    client: TestClient, service: FakeService
) -> None:
    chosen = {"transcript": "No", "explain": True, "voice": True}
    body = client.post("/v1/emotions", json={"video_path": "/a.mp4", **chosen}).json()
    assert (body["explanation"], body["transcript"]) == ("happy", "No")
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 2, "cached_tokens": 0}
    (scored,), (asked,) = service.scored, service.asked
    assert scored.question.startswith("The person in video says: No.  [emotion] Please")
    assert asked.question.startswith("The person in video says: No.  [reason] What are")
    assert asked.sampling.temperature == 0
    assert scored.decode_options.voice and asked.decode_options.voice


def test_emotions_and_their_explanation_have_one_deadline(service: FakeService) -> None:
    service.takes_s = 0.3
    limits = LimitSettings(request_timeout_s=0.5)
    api = create_api(service, AppSettings(model=Path("/m"), limits=limits))
    asked = {"video_path": "/a.mp4", "explain": True}
    with TestClient(api) as client:
        assert client.post("/v1/emotions", json=asked | {"explain": False}).status_code == 200
        assert client.post("/v1/emotions", json=asked).status_code == 504


def test_a_timeout_of_a_stage_is_not_called_the_deadline(
    client: TestClient, service: FakeService
) -> None:
    service.error = TimeoutError("the stage's own")
    response = client.post("/v1/emotions", json={"video_path": "/a.mp4"})
    assert (response.status_code, response.headers["X-Error-Code"]) == (500, "internal_error")


@pytest.mark.parametrize("wrong", [{"labels": ["one"]}, {"temperature": 1}, {"labels": "happy"}])
def test_emotions_refuses_what_would_mean_nothing(
    client: TestClient, service: FakeService, wrong: dict[str, Any]
) -> None:
    response = client.post("/v1/emotions", json={"video_path": "/a.mp4", **wrong})
    assert response.status_code == 400
    assert next(iter(wrong)) in response.json()["error"]["message"]
    assert not service.scored


@pytest.mark.parametrize("status", ["hit", "miss", None])
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/process_video", QUESTION),
        ("/api/predict/", {"data": ["/clips/a.mp4", "?"]}),
        ("/v1/emotions", {"video_path": "/clips/a.mp4", "explain": True}),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT | {"stream": True}),
    ],
    ids=["process_video", "gradio", "emotions", "chat", "streamed chat"],
)
def test_a_header_tells_what_was_given_before(
    client: TestClient, service: FakeService, path: str, asked: dict[str, Any], status: CacheStatus
) -> None:
    service.cache = status
    response = client.post(path, json=asked)
    assert response.status_code == 200
    assert response.headers.get("X-Cache") == status


@pytest.mark.parametrize("sent", ["abc-1.2:3", "x" * 128])
def test_a_request_id_is_kept(client: TestClient, service: FakeService, sent: str) -> None:
    response = client.post("/process_video", json=QUESTION, headers={"X-Request-Id": sent})
    assert response.headers["X-Request-Id"] == sent
    assert service.asked[0].request_id == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\tb", "\xe9"])
def test_an_unusable_request_id_is_replaced(
    client: TestClient, service: FakeService, sent: str
) -> None:
    headers = {b"X-Request-Id": sent.encode("latin-1")}
    response = client.post("/process_video", json=QUESTION, headers=headers)
    assert len(response.headers["X-Request-Id"]) == 32
    assert service.asked[0].request_id == response.headers["X-Request-Id"]


def test_what_is_refused_has_a_request_id_too(client: TestClient) -> None:
    for response in (client.post("/process_video", content=b"x" * 5000), client.get("/nothing")):
        assert len(response.headers["X-Request-Id"]) == 32


def test_errors_under_v1_are_openais_object(client: TestClient, service: FakeService) -> None:
    service.error = ClipNotFoundError("no file at /clips/a.mp4")
    response = client.post("/v1/emotions", json={"video_path": "/clips/a.mp4"})
    assert response.status_code == 404
    assert response.json() == {
        "error": {
            "message": "Video file not found: no file at /clips/a.mp4",
            "type": "not_found_error",
            "param": None,
            "code": "clip_not_found",
        }
    }
    assert client.post("/v1/emotions", json={}).status_code == 400
    assert client.get("/v1/none").json()["error"]["type"] == "not_found_error"


def test_a_client_that_accepts_problems_gets_them(client: TestClient, service: FakeService) -> None:
    service.error = ClipNotFoundError("no file at /clips/a.mp4")
    headers = {"Accept": "application/problem+json", "X-Request-Id": "r1"}
    for path, body in (("/process_video", QUESTION), ("/v1/emotions", {"video_path": "/a.mp4"})):
        response = client.post(path, json=body, headers=headers)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json() == {
            "type": "urn:emotion-llama:error:clip_not_found",
            "title": "Video file not found",
            "status": 404,
            "detail": "no file at /clips/a.mp4",
            "instance": "urn:request:r1",
            "code": "clip_not_found",
        }
