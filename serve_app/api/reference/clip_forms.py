"""Describes the forms of a body with a clip, which api/clip_body.py reads."""

from typing import Any

from serve_app.api.clip_body import FILE_FIELD, FORM, JSON
from serve_app.api.clip_question import ClipQuestion
from serve_app.api.reference.examples import named

BYTES_TYPES = ("video/*", "audio/*", "image/*", "application/octet-stream")
BINARY = {"type": "string", "format": "binary"}


def clip_body_schema(
    model: type[ClipQuestion], requests: dict[str, Any], fields: dict[str, Any]
) -> dict[str, Any]:
    """The `openapi_extra` of a route with such a body.

    Args:
        requests: example JSON bodies, by name.
        fields: example of the fields sent with a file, or in the query.
    """
    schema = model.model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    rest = {name: _not_null(each) for name, each in properties.items() if name != "video_path"}
    required = [name for name in schema.get("required", ()) if name != "video_path"]
    form = {
        "type": "object",
        "properties": {FILE_FIELD: BINARY, **{name: _in_form(each) for name, each in rest.items()}},
        "required": [FILE_FIELD, *required],
        "additionalProperties": False,
    }
    return {
        "parameters": [_in_query(name, each, fields) for name, each in rest.items()],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": schema, "examples": named(requests)},
                FORM: {"schema": form},
                **{kind: {"schema": BINARY} for kind in BYTES_TYPES},
            },
        },
    }


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without null: outside JSON a field is present or absent, never null."""
    if "anyOf" not in schema:
        return schema
    others = [each for each in schema["anyOf"] if each != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**rest, **(others[0] if len(others) == 1 else {"anyOf": others})}


def _is_structured(schema: dict[str, Any]) -> bool:
    return schema.get("type") in ("array", "object")


def _in_form(schema: dict[str, Any]) -> dict[str, Any]:
    if not _is_structured(schema):
        return schema
    description = schema.get("description", "")
    as_text = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    return {**as_text, "description": f"{description} As JSON.".strip()}


def _in_query(name: str, schema: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    as_is = {"schema": schema, **({"example": fields[name]} if name in fields else {})}
    return {
        "name": name,
        "in": "query",
        "description": f"Where the body is the clip itself. {schema.get('description', '')}".strip(),
        **({"content": {JSON: as_is}} if _is_structured(schema) else as_is),
    }
