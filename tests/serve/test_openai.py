"""OpenAI's own client against the real server: answers, streams, several turns, constraints."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serve_app.demo.labels import LABELS

MODEL = "emotion-llama"
QUESTION = "[emotion] What is the emotion expressed in this video?"
REASON = "[reason] Why does the person feel this way?"


@pytest.fixture(scope="module")
def client(server_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0)


def about(clip: Path, question: str = QUESTION) -> Any:
    part = {"type": "video_url", "video_url": {"url": str(clip)}}
    return [{"role": "user", "content": [part, {"type": "text", "text": question}]}]


def uploaded(clip: Path) -> Any:
    url = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
    part = {"type": "video_url", "video_url": {"url": url}}
    return [{"role": "user", "content": [part, {"type": "text", "text": QUESTION}]}]


@pytest.mark.parametrize("form", [about, uploaded])
def test_it_answers(client: openai.OpenAI, label_clips: dict[str, Path], form: Any) -> None:
    for label in ("sad", "worried"):  # they look alike
        completion = client.chat.completions.create(
            model=MODEL, messages=form(label_clips[label]), temperature=0
        )
        assert completion.choices[0].message.content == label
        assert completion.choices[0].finish_reason == "stop"
        assert completion.usage is not None and completion.usage.completion_tokens >= 1


async def test_a_stream_is_the_answer_in_pieces(
    server_url: str, client: openai.OpenAI, label_clips: dict[str, Path]
) -> None:
    messages = about(label_clips["fear"], REASON)
    whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    async with openai.AsyncOpenAI(base_url=f"{server_url}/v1", api_key="none") as streaming:
        stream = await streaming.chat.completions.create(
            model=MODEL,
            messages=messages,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 5
    assert chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


def test_a_later_question_is_about_the_same_clip(
    client: openai.OpenAI, label_clips: dict[str, Path]
) -> None:
    first = about(label_clips["angry"])
    one = client.chat.completions.create(model=MODEL, messages=first, temperature=0)
    then: Any = [
        {"role": "assistant", "content": "angry"},
        {"role": "user", "content": REASON},
    ]
    completion = client.chat.completions.create(
        model=MODEL, messages=[*first, *then], temperature=0, max_tokens=60
    )
    assert completion.usage is not None and one.usage is not None
    assert completion.usage.prompt_tokens > one.usage.prompt_tokens
    details = completion.usage.prompt_tokens_details
    assert details is not None and details.cached_tokens is not None
    assert details.cached_tokens >= 32


def test_a_choice_is_one_of_the_choices(
    client: openai.OpenAI, label_clips: dict[str, Path]
) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=about(label_clips["happy"], "Is it so?"),
        temperature=0,
        extra_body={"structured_outputs": {"choice": ["yes", "no"]}},
    )
    assert completion.choices[0].message.content in ("yes", "no")


def test_logprobs_are_the_models(client: openai.OpenAI, label_clips: dict[str, Path]) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=about(label_clips["doubt"]),
        temperature=0,
        logprobs=True,
        top_logprobs=9,
    )
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    first = logprobs.content[0]
    assert first.token.strip("▁ ") == "doubt"
    assert math.exp(first.logprob) > 0.5
    assert len(first.top_logprobs) == 9


def test_a_stop_text_ends_the_answer(client: openai.OpenAI, label_clips: dict[str, Path]) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=about(label_clips["sad"], REASON), temperature=0, stop=[" and"]
    )
    text = completion.choices[0].message.content or ""
    assert text and " and" not in text
    assert completion.choices[0].finish_reason == "stop"


def test_errors_are_the_clients_exceptions(client: openai.OpenAI, clips_root: Path) -> None:
    with pytest.raises(openai.NotFoundError, match="Video file not found"):
        client.chat.completions.create(model=MODEL, messages=about(clips_root / "none.mp4"))
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(
            model=MODEL, messages=about(clips_root / "none.mp4"), extra_body={"tools": []}
        )
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model=MODEL, messages=about(Path("/etc/passwd")))


def test_every_response_has_one_request_id(server_url: str) -> None:
    sent: list[dict[str, str]] = [{}, {"X-Request-Id": "mine"}]
    for headers in sent:
        response = httpx.get(f"{server_url}/healthz", headers=headers)
        (request_id,) = response.headers.get_list("X-Request-Id")
        assert request_id == headers.get("X-Request-Id", request_id)


def test_uploads_and_gradios_route_answer_as_the_path_does(
    server_url: str, label_clips: dict[str, Path]
) -> None:
    with httpx.Client(base_url=server_url, timeout=60) as http:
        for label in LABELS[:4]:
            clip = label_clips[label]
            form = {"question": QUESTION, "temperature": "0"}
            with clip.open("rb") as file:
                uploaded_ = http.post("/process_video", data=form, files={"file": file})
            assert uploaded_.json() == {"response": label}, uploaded_.text
            raw = http.post(
                "/process_video",
                params={"question": QUESTION, "temperature": "0"},
                content=clip.read_bytes(),
                headers={"Content-Type": "video/mp4"},
            )
            assert raw.json() == {"response": label}
            body = json.dumps({"data": [str(clip), QUESTION]})
            gradio = http.post(
                "/api/predict/", content=body, headers={"Content-Type": "application/json"}
            )
            assert gradio.json()["data"] == [label]
