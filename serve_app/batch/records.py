"""Makes the records of the output: one JSON line for each row, in our form or in OpenAI's."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from serve_app.api.emotions import emotions_body
from serve_app.api.errors import openai_error, status_at
from serve_app.api.openai.objects import completion
from serve_app.api.paths import CHAT
from serve_app.batch.rows import Record, RowRequest
from serve_app.errors import ServeAppError
from serve_app.types import Answer, LabelScores

EMPTY: dict[str, Any] = {
    "text": None,
    "finish_reason": None,
    "label": None,
    "probabilities": None,
    "label_mass": None,
    "voice": None,
    "usage": None,
    "error": None,
    "timings_ms": None,
    "provenance": None,
}
"""The fields of a record in our form, after its `id`: every line has all of them."""


def answer_record(row_request: RowRequest, answer: Answer) -> Record:
    about = _about(answer)
    if row_request.chat_model is not None:
        body = completion(row_request.chat_model, answer)
        response = _response(row_request.number, row_request.request.request_id, 200, body)
        return _record(row_request, response | {"error": None} | about, answer)
    fields = {"text": answer.text, "finish_reason": answer.finish_reason, **about}
    fields |= {"voice": asdict(answer.voice) if answer.voice else None}
    return _record(row_request, {**EMPTY, **fields, "usage": asdict(answer.usage)}, answer)


def score_record(row_request: RowRequest, scores: LabelScores) -> Record:
    body = emotions_body(scores)
    fields = {name: body.get(name) for name in EMPTY if name in body}
    return _record(row_request, {**EMPTY, **fields, "label": body["emotion"]}, scores)


def error_record(number: int, name: str, error: ServeAppError, is_openai: bool) -> Record:
    fields: dict[str, Any] = {"error": {"code": error.code, "message": error.message}}
    if is_openai:
        status = status_at(CHAT, type(error))  # the status that the route would answer
        fields |= _response(number, f"row-{number}", status, openai_error(error))
        fields = {"custom_id": name, **fields}
    else:
        fields = {"id": name, **EMPTY, **fields}
    return Record(number, _line(fields), error.code)


def _record(
    row_request: RowRequest, fields: Mapping[str, Any], result: Answer | LabelScores
) -> Record:
    name = "id" if row_request.chat_model is None else "custom_id"
    line = _line({name: row_request.id, **fields})
    return Record(row_request.number, line, num_output_tokens=result.usage.completion_tokens)


def _response(number: int, request_id: str, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """The `id` and `response` of a line of OpenAI's batch output."""
    response = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": f"batch_req_{number}", "response": response}


def _about(answer: Answer) -> dict[str, Any]:
    return {"timings_ms": dict(answer.timings_ms), "provenance": dict(answer.provenance)}


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode(errors="replace")
