"""Parses rows into requests with the body models of the HTTP routes: same checks, defaults and answers."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, get_args

from serve_app.api.clip_question import check_question
from serve_app.api.emotions import EmotionsRequest
from serve_app.api.openai.request import answer_request
from serve_app.api.openai.schema import ChatRequest
from serve_app.api.paths import CHAT
from serve_app.api.process_video import ProcessVideoRequest
from serve_app.batch.options import Defaults
from serve_app.batch.rows import Row, RowRequest
from serve_app.batch.storage import is_uri
from serve_app.emotions import WHY_QUESTION, split_labels, with_sentence
from serve_app.errors import InvalidRequestError
from serve_app.settings import AppSettings
from serve_app.types import AnswerRequest, ClipSource, ScoreRequest, Task
from serve_app.validation import validated

OF_SCORES = frozenset({"frame", "voice", "parity", "layout", "tokenization", "audio_mode"})


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A row read as a request, with its clip and ready features."""

    row_request: RowRequest
    source: ClipSource
    features: str | None


def read_row(row: Row, defaults: Defaults, settings: AppSettings) -> ParsedRow:
    """Parses one row.

    Raises:
        RequestError: the row is not a valid request; the message names its place in the manifest.
    """
    if row.problem:
        raise InvalidRequestError(row.problem)
    try:
        if row.is_openai:
            return _openai(row, settings)
        return _plain(row, defaults, settings)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{row.place}: {error.message}") from error


def _openai(row: Row, settings: AppSettings) -> ParsedRow:
    url, method = row.fields.get("url"), row.fields.get("method", "POST")
    if url != CHAT or method != "POST":
        raise InvalidRequestError(f"{method} {url} cannot be batched; only POST {CHAT} can")
    body = validated(ChatRequest, row.fields.get("body"))
    if body.stream:
        raise InvalidRequestError("stream is true; a batch has nothing to stream to")
    request = answer_request(body, settings)
    return ParsedRow(RowRequest(row.number, row.id, request, body.model), request.source, None)


def _plain(row: Row, defaults: Defaults, settings: AppSettings) -> ParsedRow:
    video = row.fields.get("video")
    if not isinstance(video, str) or not video:
        raise InvalidRequestError("video is missing or not a string")
    body: dict[str, Any] = dict(defaults.options)
    if "frame" in row.fields:
        body["frame"] = row.fields["frame"]
    # The routes take no URIs: the body is checked with a path instead, and the decode stage fetches the URI.
    body["video_path"] = "/" if is_uri(video) else video
    request = _request(row, body, defaults, settings)
    source = ClipSource(path=video) if is_uri(video) else request.source
    features = row.fields.get("features") or _beside(video, defaults.features)
    if features is not None and not isinstance(features, str):
        raise InvalidRequestError("features is not the path of an npz file")
    return ParsedRow(RowRequest(row.number, row.id, request), source, features)


def _request(
    row: Row, body: dict[str, Any], defaults: Defaults, settings: AppSettings
) -> AnswerRequest | ScoreRequest:
    fields = row.fields
    question, task = fields.get("question"), fields.get("task")
    if question is None and task is None:
        question, task = defaults.question, defaults.task
    transcript = fields.get("transcript")
    for text in (question, transcript):
        if text is not None and not isinstance(text, str):
            raise InvalidRequestError(f"{text!r} is not a string")
        check_question(text or "", settings.limits)
    if task == "emotion":
        body = {
            name: value for name, value in body.items() if name in OF_SCORES or name == "video_path"
        }
        body |= {"question": question or "", "transcript": transcript}
        labels = fields.get("labels", defaults.labels)
        if labels is not None:
            body["labels"] = split_labels(labels) if isinstance(labels, str) else labels
        return validated(EmotionsRequest, body).score_request(settings)
    if "labels" in fields:
        raise InvalidRequestError("labels can only be given with task emotion")
    if task == "reason":
        if question is not None:
            raise InvalidRequestError("give a question or task reason, not both")
        body, question = {"temperature": 0, **body}, WHY_QUESTION
    elif task is not None:
        raise InvalidRequestError(f"task is {task!r}; expected one of {', '.join(get_args(Task))}")
    if not question:
        raise InvalidRequestError("neither the row nor the command has a question or a task")
    body["question"] = with_sentence(transcript, question)
    return validated(ProcessVideoRequest, body).answer_request(settings)


def _beside(video: str, folder: str | None) -> str | None:
    return None if folder is None else f"{folder}/{PurePosixPath(video).stem}.npz"
