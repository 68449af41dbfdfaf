"""The OpenAPI document against the real server: requests that are made up, and those that it shows."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_checks import JSON, check, load, made_up, send
from schemathesis import Case
from unit.test_api import FakeService

from serve_app.api.app import create_api
from serve_app.api.reference.examples import CLIP
from serve_app.settings import AppSettings

DOCUMENT = create_api(FakeService(), AppSettings(model=Path("/m"))).openapi()
SERVED = load(DOCUMENT)
SHOWN = [
    pytest.param(path, shown["value"], id=f"{path}: {name}")
    for path, methods in DOCUMENT["paths"].items()
    if "post" in methods
    for name, shown in methods["post"]["requestBody"]["content"][JSON]["examples"].items()
]


def test_the_server_serves_the_document(http: httpx.Client) -> None:
    assert http.get("/openapi.json").json() == DOCUMENT
    assert http.get("/docs").status_code == 200


@made_up(SERVED, 5)
def test_the_document_is_true_of_the_server(server_url: str, case: Case[Any]) -> None:
    check(case, send(case, base_url=server_url), accepts_all=False)


@pytest.mark.parametrize(("path", "shown"), SHOWN)
def test_what_the_document_shows_is_answered(
    server_url: str, label_clips: dict[str, Path], path: str, shown: dict[str, Any]
) -> None:
    body = json.loads(json.dumps(shown).replace(CLIP, str(label_clips["worried"])))
    case: Case[Any] = SERVED[path]["POST"].Case(body=body, media_type=JSON)
    response = case.call_and_validate(base_url=server_url)
    assert response.status_code == 200
