"""Completes the OpenAPI document that FastAPI makes of the routes: errors, headers and API keys."""

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from serve_app.api.cache_header import HEADER as CACHE
from serve_app.api.clip_body import JSON
from serve_app.api.paths import OPEN, PROCESS_VIDEO
from serve_app.api.reference.chat_answers import CompletionChunk
from serve_app.api.reference.error_bodies import ERROR_BODIES, InBandError
from serve_app.api.reference.failures import failure_responses, failures
from serve_app.api.reference.schemas import ref
from serve_app.api.request_id import HEADER, USABLE
from serve_app.errors import UnauthorizedError
from serve_app.settings import AppSettings

DESCRIPTION = """\
What a person in a short clip expresses, and why. A clip is a path on the server, a `data:` URL, a file in
a form, or the body itself.

The header `X-Error-Code` names an error and stays the same. An error's body has the route's form, or that of
RFC 9457 where `Accept` has `application/problem+json`. Only Ray Serve's own proxy, where its queue is full,
answers 503 with plain text.
"""
TAGS = {
    "clip questions": "A question about a clip, by the original's API or as its Gradio page asked.",
    "emotions": "Labels with their probabilities.",
    "openai": "For OpenAI's clients.",
    "operations": "For probes, which need no key, and for whoever runs the server.",
}
SECURITY = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
COUNT = {"type": "integer", "minimum": 0}
RATE_HEADERS = {
    "X-RateLimit-Limit": {"description": "Requests in a window.", "schema": COUNT},
    "X-RateLimit-Remaining": {"description": "Requests left in it.", "schema": COUNT},
    "X-RateLimit-Reset": {"description": "Seconds until it ends.", "schema": COUNT},
    "RateLimit-Policy": {
        "schema": {"type": "string", "pattern": r'^"default";q=\d+;w=\d+$'},
        "example": '"default";q=10;w=60',
    },
    "RateLimit": {
        "schema": {"type": "string", "pattern": r'^"default";r=\d+;t=\d+$'},
        "example": '"default";r=7;t=31',
    },
}
CACHE_STATUS = {
    "description": "Whether the answer was one given before; where answers are kept.",
    "schema": {"type": "string", "enum": ["hit", "miss"]},
}
REQUEST_ID = {
    "description": "The client's own, whatever it is, or a new one.",
    "required": True,
    "schema": {"type": "string"},
}
REQUEST_ID_SENT = {
    "name": HEADER,
    "in": "header",
    "description": f"Comes back, and is in the log, where it is `{USABLE.pattern}`.",
    "schema": {"type": "string"},
}


def describe(api: FastAPI, settings: AppSettings, asks_for_keys: bool) -> None:
    """Replace `api.openapi` by one that returns the complete document.

    Args:
        asks_for_keys: whether the server has API keys, which requests then need.
    """
    found_by_fastapi = api.openapi
    api.description = DESCRIPTION
    api.openapi_tags = [{"name": name, "description": text} for name, text in TAGS.items()]
    limits_rates = asks_for_keys or settings.access.rate is not None  # a key may have its own rate

    @cache
    def whole() -> dict[str, Any]:
        document = found_by_fastapi()
        _add_components(document["components"])
        for route in filter(_is_described, api.routes):
            assert isinstance(route, APIRoute)
            for operation in document["paths"][route.path].values():
                _complete(operation, route, asks_for_keys, limits_rates)
        if settings.legacy_errors == "in_band":
            _allow_in_band_errors(document)
        return document

    api.openapi = whole  # type: ignore[method-assign]


def _is_described(route: BaseRoute) -> bool:
    return isinstance(route, APIRoute) and route.include_in_schema


def _add_components(components: dict[str, Any]) -> None:
    kinds = [(model, "serialization") for model in (*ERROR_BODIES, CompletionChunk)]
    _, schemas = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components["schemas"] |= schemas["$defs"]
    for name in (
        "HTTPValidationError",
        "ValidationError",
    ):  # FastAPI's own, which no route answers with
        components["schemas"].pop(name, None)
    components["securitySchemes"] = SECURITY
    components["parameters"] = {"RequestId": REQUEST_ID_SENT}
    components["headers"] = {HEADER: REQUEST_ID, **RATE_HEADERS}


def _complete(
    operation: dict[str, Any], route: APIRoute, asks_for_keys: bool, limits_rates: bool
) -> None:
    """Add responses, headers, parameters and security to one operation, in place."""
    is_open = route.path in OPEN
    found = failures(route.path, "requestBody" in operation, asks_for_keys, limits_rates)
    operation["responses"] = {
        "200": _answer(route.responses[200]),
        **failure_responses(route.path, found),
    }
    if "requestBody" in operation:
        operation["responses"]["200"]["headers"] = {CACHE: CACHE_STATUS}
    for status, response in operation["responses"].items():
        is_counted = limits_rates and not is_open and status != str(UnauthorizedError.status)
        response.setdefault("headers", {}).update(_headers(is_counted))
    request_id = {"$ref": "#/components/parameters/RequestId"}
    operation["parameters"] = [*operation.get("parameters", ()), request_id]
    operation["security"] = [] if is_open else _security(asks_for_keys)


def _answer(given: dict[str, Any]) -> dict[str, Any]:
    """The answer that `answer_schema` gave the route. FastAPI's copy has lost the nulls of its examples."""
    content = given["content"]
    as_json = {"schema": ref(given["model"]), **content[JSON]}
    return {"description": given["description"], "content": {**content, JSON: as_json}}


def _security(asks_for_keys: bool) -> list[dict[str, list[str]]]:
    nobody: dict[str, list[str]] = {}
    keys: list[dict[str, list[str]]] = [{name: []} for name in SECURITY]
    return keys if asks_for_keys else [nobody, *keys]


def _headers(is_counted: bool) -> dict[str, Any]:
    names = [HEADER, *(RATE_HEADERS if is_counted else ())]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _allow_in_band_errors(document: dict[str, Any]) -> None:
    answer = document["paths"][PROCESS_VIDEO]["post"]["responses"]["200"]["content"][JSON]
    answer["schema"] = {"anyOf": [answer["schema"], ref(InBandError)]}
