"""Rows become what the HTTP routes make of the same fields."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.api.emotions import EmotionsRequest
from serve_app.api.process_video import ProcessVideoRequest
from serve_app.batch.options import Defaults
from serve_app.batch.requests import ParsedRow, read_row
from serve_app.batch.rows import Row
from serve_app.errors import InvalidRequestError, ModelNotFoundError
from serve_app.settings import AppSettings
from serve_app.types import AnswerRequest, ScoreRequest

SETTINGS = AppSettings(model=Path("/model"))
CLIP = "/clips/1.mp4"
NONE = Defaults()


def parse(fields: dict[str, Any], defaults: Defaults = NONE) -> ParsedRow:
    is_openai = "url" in fields
    return read_row(Row(0, "a", "line 2", fields, is_openai=is_openai), defaults, SETTINGS)


def test_a_question_is_asked_as_process_video_asks_it() -> None:
    options = {"temperature": 0.0, "frame": "middle", "parity": "reference", "max_tokens": 9}
    row = parse({"video": CLIP, "question": "What?"}, Defaults(options=options))
    asked = row.row_request.request
    body = {"video_path": CLIP, "question": "What?", **options}
    expected = ProcessVideoRequest.model_validate(body).answer_request(SETTINGS)
    assert isinstance(asked, AnswerRequest)
    for name in ("source", "question", "decode_options", "sampling", "prompt_options", "history"):
        assert getattr(asked, name) == getattr(expected, name), name


def test_task_emotion_is_scored_as_the_emotions_route_scores_it() -> None:
    fields = {"video": CLIP, "task": "emotion", "transcript": "Well", "labels": "happy, sad"}
    asked = parse(fields, Defaults(options={"temperature": 0.7})).row_request.request
    over_http = EmotionsRequest(video_path=CLIP, transcript="Well", labels=["happy", "sad"])
    expected = over_http.score_request(SETTINGS)
    assert isinstance(asked, ScoreRequest)
    for name in ("source", "question", "labels", "decode_options", "prompt_options"):
        assert getattr(asked, name) == getattr(expected, name), name


def test_task_reason_is_the_explanation_of_the_emotions_route() -> None:
    asked = parse({"video": CLIP, "task": "reason", "transcript": "Well"}).row_request.request
    expected = EmotionsRequest(video_path=CLIP, transcript="Well").reason_request(SETTINGS)
    assert isinstance(asked, AnswerRequest)
    assert (asked.question, asked.sampling) == (expected.question, expected.sampling)


def test_what_the_row_says_wins_over_the_job() -> None:
    defaults = Defaults(task="emotion", labels=("a", "b"), options={"frame": "middle"})
    own = parse({"video": CLIP, "question": "What?", "frame": 1.5}, defaults).row_request.request
    assert isinstance(own, AnswerRequest)
    assert (own.question, own.decode_options.frame) == ("What?", 1.5)
    jobs = parse({"video": CLIP}, defaults).row_request.request
    assert isinstance(jobs, ScoreRequest)
    assert (jobs.labels, jobs.decode_options.frame) == (("a", "b"), "middle")


def test_features_are_the_rows_file_or_the_one_named_as_the_clip() -> None:
    defaults = Defaults(question="What?", features="/features")
    assert parse({"video": CLIP}, defaults).features == "/features/1.npz"
    assert parse({"video": CLIP, "features": "/own.npz"}, defaults).features == "/own.npz"
    assert parse({"video": CLIP}, Defaults(question="What?")).features is None


def test_a_uri_is_left_for_the_decode_stage() -> None:
    assert parse({"video": "s3://b/1.mp4", "question": "What?"}).source.path == "s3://b/1.mp4"


def chat(**changes: Any) -> dict[str, Any]:
    content = [
        {"type": "video_url", "video_url": {"url": CLIP}},
        {"type": "text", "text": "What?"},
    ]
    body = {"model": "emotion-llama", "messages": [{"role": "user", "content": content}]}
    return {"method": "POST", "url": "/v1/chat/completions", "body": {**body, **changes}}


def test_an_openai_line_is_asked_as_its_route_asks_it() -> None:
    parsed = parse(chat(temperature=0, max_completion_tokens=5))
    request = parsed.row_request.request
    assert isinstance(request, AnswerRequest)
    assert parsed.source.path == CLIP
    assert (request.question, parsed.row_request.chat_model) == ("What?", "emotion-llama")
    assert request.sampling.max_tokens == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": "What?"}, "line 2: video is missing"),
        ({"video": 5, "question": "What?"}, "line 2: video is missing or not a string"),
        ({"video": CLIP}, "line 2: neither the row nor the command has a question or a task"),
        ({"video": CLIP, "question": 5}, "line 2: 5 is not a string"),
        ({"video": CLIP, "question": "x" * 20_001}, "20001 characters; the limit is 20000"),
        ({"video": CLIP, "task": "count"}, "line 2: task is 'count'; expected one of"),
        ({"video": CLIP, "task": "reason", "question": "x"}, "not both"),
        ({"video": CLIP, "task": "emotion", "labels": 5}, "line 2: labels: "),
        (
            {"video": CLIP, "question": "x", "labels": "a,b"},
            "labels can only be given with task emotion",
        ),
        ({"video": CLIP, "question": "x", "frame": "last"}, "line 2: frame"),
        ({"video": CLIP, "question": "x", "features": 1}, "features is not the path"),
        (chat(stream=True), "line 2: stream is true"),
        (chat(temperature=3), "line 2: temperature: "),
        ({**chat(), "url": "/v1/embeddings"}, "POST /v1/embeddings cannot be batched"),
        ({**chat(), "method": "GET"}, "GET /v1/chat/completions cannot be batched"),
        ({"url": "/v1/chat/completions"}, "line 2: body: "),
    ],
)
def test_a_row_that_cannot_be_asked_says_where_and_why(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        parse(fields)


def test_another_model_is_refused_as_over_http() -> None:
    with pytest.raises(ModelNotFoundError, match="model 'gpt-4o'; this server has 'emotion-llama'"):
        parse(chat(model="gpt-4o"))
