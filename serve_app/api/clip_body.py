"""A route's body in any of its forms: JSON that names a clip, a form with a file, or the clip itself.

    application/json       {"video_path": an absolute path or a data: URL, "question", ...}
    multipart/form-data    `file`, and the other fields by their names
    video/*, audio/*, image/*, application/octet-stream    the clip; the fields are the query's

Nothing of a clip is written to a disk.
"""

import base64
import binascii
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from serve_app.api.clip_question import ClipQuestion
from serve_app.errors import InvalidRequestError, UnsupportedClipError

Model = TypeVar("Model", bound=ClipQuestion)

JSON = "application/json"
FORM = "multipart/form-data"
BYTES = re.compile(r"(video|audio|image)/.+|application/octet-stream")
DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
FILE_FIELD = "file"
NOT_A_PATH = "/upload"  # never opened: the bytes that came along stand for it
MAX_FIELDS = 32
MAX_FIELD_BYTES = 1 << 20
STRUCTURED_FIELDS = frozenset({"features", "labels", "frame"})  # JSON inside a form or a query


def clip_body(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """A FastAPI dependency: the validated body, with the clip's bytes where they came along.

    Raises:
        RequestValidationError: a field is missing, unknown or out of range, or the body is not JSON.
        InvalidRequestError: a broken form or data URL.
        UnsupportedClipError: another content type.
    """

    async def read(request: Request) -> Model:
        content_type = request.headers.get("content-type", JSON).split(";")[0].strip().lower()
        if content_type in (JSON, FORM):
            _check_query(model, request)
        if content_type == JSON:
            return _from_json(model, await request.body())
        if content_type == FORM:
            fields, data = await _read_form(request)
            return _with_bytes(model, fields, data)
        if BYTES.fullmatch(content_type):
            fields = _plain_fields(request.query_params.multi_items())
            return _with_bytes(model, fields, await request.body())
        raise UnsupportedClipError(
            f"Content-Type is {content_type!r}; expected {JSON}, {FORM}, or that of a video, sound or picture"
        )

    return read


def _check_query(model: type[ClipQuestion], request: Request) -> None:
    """Refuse fields in the query of a body that is not the clip itself: they would be ignored."""
    for name in request.query_params:
        if name in model.model_fields:
            raise InvalidRequestError(
                f"field {name!r} is in the query; it belongs into the body, which is not the clip itself"
            )


def _from_json(model: type[Model], body: bytes) -> Model:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        problem = {
            "type": "json_invalid",
            "loc": ("body",),
            "msg": "JSON decode error",
            "input": {},
        }
        raise RequestValidationError([problem]) from error
    return from_fields(model, fields, ("body",))


def from_fields(model: type[Model], fields: Any, where: tuple[str, ...]) -> Model:
    """Validate the fields of a JSON body; a data: URL in video_path becomes the clip's bytes.

    Args:
        where: location of the fields, for the errors.
    """
    url = fields.get("video_path") if isinstance(fields, dict) else None
    if not isinstance(url, str) or not DATA_URL.match(url):
        return _validated(model, fields, where, strict=True)
    body = _validated(model, {**fields, "video_path": NOT_A_PATH}, where, strict=True)
    body.attach(decode_data_url(url))
    return body


def decode_data_url(url: str) -> bytes:
    """Raises InvalidRequestError: not base64."""
    head = DATA_URL.match(url)
    assert head is not None, "whoever calls this has looked"
    if ";base64" not in head["parameters"].lower():
        raise InvalidRequestError("video_path is a data: URL without base64, the only form taken")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"video_path is a data: URL, but not base64: {error}") from error


async def _read_form(request: Request) -> tuple[dict[str, Any], bytes]:
    async def body() -> AsyncGenerator[bytes, None]:
        yield await request.body()

    parser = MultiPartParser(
        request.headers, body(), max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    parser.spool_max_size = 1 << 62  # in memory, however large; the body was capped before
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequestError(f"the form is broken: {error.message}") from error
    except (KeyError, ValueError) as error:
        raise InvalidRequestError(f"the form is broken: {error!r}") from error
    return await _split_form(form)


async def _split_form(form: FormData) -> tuple[dict[str, Any], bytes]:
    file = form.get(FILE_FIELD)
    if not isinstance(file, UploadFile):
        raise InvalidRequestError(f"the form has no file in its field {FILE_FIELD!r}")
    others = [(name, value) for name, value in form.multi_items() if name != FILE_FIELD]
    if any(isinstance(value, UploadFile) for _, value in others):
        raise InvalidRequestError(f"the form's only file is {FILE_FIELD!r}")
    data = await file.read()
    await form.close()
    return _plain_fields([(name, str(value)) for name, value in others]), data


def _plain_fields(items: list[tuple[str, str]]) -> dict[str, Any]:
    """The fields by name, as text; those in STRUCTURED_FIELDS parsed where they are JSON."""
    fields: dict[str, Any] = {}
    for name, text in items:
        if name in fields:
            raise InvalidRequestError(f"field {name!r} is there twice")
        fields[name] = _structured(text) if name in STRUCTURED_FIELDS else text
    return fields


def _structured(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _with_bytes(model: type[Model], fields: Mapping[str, Any], data: bytes) -> Model:
    if "video_path" in fields:
        raise InvalidRequestError("video_path and the clip's own bytes: one of the two")
    body = _validated(model, {**fields, "video_path": NOT_A_PATH}, ("body",), strict=None)
    body.attach(data)
    return body


def _validated(
    model: type[Model], fields: Any, where: tuple[str, ...], strict: bool | None
) -> Model:
    """The validated body.

    Args:
        strict: reject a quoted number. None: the model's own setting, for forms and queries, whose
            fields are always text.
    """
    try:
        return model.model_validate(fields, strict=strict)
    except ValidationError as error:
        problems = [{**each, "loc": (*where, *each["loc"])} for each in error.errors()]
        raise RequestValidationError(problems) from error
