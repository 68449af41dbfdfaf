"""Chat completions over a fake service, asked by OpenAI's own client: what reaches it and what comes back."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi.testclient import TestClient
from unit.test_api import FakeService

from serve_app.api.app import create_api
from serve_app.errors import ClipNotFoundError, EngineError
from serve_app.settings import AppSettings
from serve_app.types import Sampling, Turn

MODEL = "emotion-llama"
CLIP = {"type": "video_url", "video_url": {"url": "/clips/a.mp4"}}
ASKED = [{"role": "user", "content": [CLIP, {"type": "text", "text": "[emotion] What?"}]}]


def about(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{**CLIP, "video_url": url}]}]


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> TestClient:
    api = create_api(service, AppSettings(model=Path("/m")))
    return TestClient(api, raise_server_exceptions=False)


@pytest.fixture
async def openai_client(service: FakeService) -> AsyncIterator[openai.AsyncOpenAI]:
    api = create_api(service, AppSettings(model=Path("/m")))
    transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport) as http:
        # Its annotation knows only the package's own copy of httpx.
        options: dict[str, Any] = {"http_client": http, "max_retries": 0}
        yield openai.AsyncOpenAI(base_url="http://test/v1", api_key="none", **options)


def ask(client: TestClient, **change: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": MODEL, "messages": ASKED, **change})


async def test_the_official_client_gets_an_answer(
    openai_client: openai.AsyncOpenAI, service: FakeService
) -> None:
    messages: Any = ASKED
    completion = await openai_client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, seed=3, max_completion_tokens=9, stop=["."]
    )
    assert completion.choices[0].message.content == "happy"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (2, 3)
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 0
    assert completion.id.startswith("chatcmpl-")
    (asked,) = service.asked
    assert (asked.source.path, asked.question) == ("/clips/a.mp4", "[emotion] What?")
    assert asked.sampling == Sampling(0, 0.9, 50, 1.05, 9, 3, (".",))
    assert (await openai_client.models.list()).data[0].id == MODEL


async def test_the_official_client_streams(
    openai_client: openai.AsyncOpenAI, service: FakeService
) -> None:
    messages: Any = ASKED
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    texts = [c.choices[0].delta.content for c in chunks if c.choices]
    assert "".join(text or "" for text in texts) == "happy"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 2
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_ends_in_done_and_has_no_usage_unasked(client: TestClient) -> None:
    response = ask(client, stream=True)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")
    assert '"usage"' not in response.text


def test_an_error_before_the_first_delta_has_its_status(
    client: TestClient, service: FakeService
) -> None:
    service.deltas, service.error = [], ClipNotFoundError("no file at /clips/a.mp4")
    response = ask(client, stream=True)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "clip_not_found"


def test_an_error_in_the_middle_is_the_last_event(client: TestClient, service: FakeService) -> None:
    service.error = EngineError("the engine failed")
    events = ask(client, stream=True).text.strip().split("\n\n")
    assert '"code":"engine_error"' in events[-1].replace(" ", "")
    assert "[DONE]" not in events[-1]


def test_half_a_character_in_a_url_is_a_400(client: TestClient) -> None:
    text = json.dumps({"model": MODEL, "messages": about("/\ud800")})
    headers = {"Content-Type": "application/json"}
    response = client.post("/v1/chat/completions", content=text, headers=headers)
    assert response.status_code == 400
    assert "not valid Unicode" in response.json()["error"]["message"]


def test_a_bug_in_the_middle_is_an_event_without_its_text(
    client: TestClient, service: FakeService
) -> None:
    service.error = ZeroDivisionError("secret")
    events = ask(client, stream=True).text.strip().split("\n\n")
    assert '"internal_error"' in events[-1]
    assert "secret" not in events[-1]


def test_a_chat_of_several_turns(client: TestClient, service: FakeService) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        *ASKED,
        {"role": "assistant", "content": "happy"},
        {"role": "user", "content": "[reason] Why?"},
    ]
    assert ask(client, messages=messages).status_code == 200
    (asked,) = service.asked
    assert asked.history == (Turn("Be brief.\n[emotion] What?", "happy"),)
    assert asked.question == "[reason] Why?"


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ({"type": "video_url", "video_url": "file:///clips/a%20b.mp4"}, "/clips/a b.mp4"),
        ({"type": "image_url", "image_url": {"url": "/a.png", "detail": "auto"}}, "/a.png"),
        ({"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,UklGRg=="}}, b"RIFF"),
        ({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}, b"RIFF"),
        ({**CLIP, "uuid": "mine"}, "/clips/a.mp4"),
    ],
)
def test_a_clip_comes_in_many_forms(
    client: TestClient, service: FakeService, part: Any, source: str | bytes
) -> None:
    content = [part, {"type": "text", "text": "?"}]
    response = ask(client, messages=[{"role": "user", "content": content}])
    assert response.status_code == 200, response.text
    assert source in (service.asked[0].source.path, service.asked[0].source.data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guided_choice": ["a"]}, "guided_choice"),
        ({"n": 2}, "n:"),
        ({"tools": []}, "tools"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "one of the two"),
        ({"top_logprobs": 2}, "needs logprobs"),
        ({"stream_options": {"include_usage": True}}, "needs stream"),
        ({"stop": ["a"] * 5}, "stop has 5"),
        ({"structured_outputs": {}}, "exactly one of"),
        ({"structured_outputs": {"choice": ["a"], "regex": "a"}}, "exactly one of"),
        ({"response_format": {"type": "json_schema"}}, "json_schema is missing"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "no clip"}]}, "0 clips; exactly one"),
        ({"messages": [*ASKED, *ASKED]}, "user where assistant is expected"),
        (
            {"messages": [*ASKED, {"role": "assistant", "content": "x"}]},
            "the last one is the user's",
        ),
        ({"messages": [{"role": "user", "content": [CLIP, CLIP]}]}, "2 clips; exactly one"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        (
            {"messages": [{"role": "user", "content": [{**CLIP, "video_url": "http://x/a.mp4"}]}]},
            "none of a data",
        ),
        (
            {"messages": [{"role": "user", "content": [{**CLIP, "video_url": "file://host/a"}]}]},
            "another host",
        ),
        ({"messages": about("clips/a.mp4")}, "and an absolute path"),
        ({"messages": about("file://[")}, "is no URL"),
        ({"frame": -1}, "frame"),
        (
            {
                "messages": [
                    *ASKED,
                    {"role": "assistant", "content": "x" * 20_000},
                    {"role": "user", "content": "?"},
                ]
            },
            "characters; the limit is 20000",
        ),
        (
            {
                "structured_outputs": {"json": {"type": "object"}},
                "response_format": {"type": "text"},
            },
            "one of the two",
        ),
    ],
)
def test_what_cannot_be_honoured_is_a_400_that_names_it(
    client: TestClient, service: FakeService, change: dict[str, Any], message: str
) -> None:
    response = ask(client, **change)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]["message"]
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert not service.asked


def test_another_model_is_404(client: TestClient) -> None:
    response = ask(client, model="gpt-4")
    assert response.status_code == 404
    assert "this server has 'emotion-llama'" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"structured_outputs": {"choice": ["a", "b"]}}, {"choice": ["a", "b"]}),
        ({"structured_outputs": {"json": {"type": "object"}}}, {"json": {"type": "object"}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "object"}},
                }
            },
            {"json": {"type": "object"}},
        ),
        ({"response_format": {"type": "text"}}, None),
    ],
)
def test_constraints_reach_the_service(
    client: TestClient, service: FakeService, change: Any, constraint: Any
) -> None:
    assert ask(client, **change).status_code == 200
    assert service.asked[0].sampling.constraint == constraint


def test_logprobs_are_asked_for(client: TestClient, service: FakeService) -> None:
    ask(client, logprobs=True, top_logprobs=3)
    ask(client)
    assert [each.sampling.num_logprobs for each in service.asked] == [3, None]


@pytest.mark.parametrize("wrong", [{"temperature": "0"}, {"stream": "yes"}, {"seed": "3"}], ids=str)
def test_numbers_and_booleans_are_said_as_such(client: TestClient, wrong: dict[str, Any]) -> None:
    response = ask(client, **wrong)
    assert response.status_code == 400
    assert next(iter(wrong)) in response.json()["error"]["message"]
    assert ask(client, max_tokens=7.0, seed=3.0).status_code == 200
