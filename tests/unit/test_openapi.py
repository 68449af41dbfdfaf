"""The OpenAPI document agrees with the application, which runs over a fake service."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from openapi_checks import JSON, PROBLEM, check, load, made_up, send
from ray.exceptions import RayTaskError
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance
from unit.test_api import FakeService

from serve_app.api.app import create_api
from serve_app.api.reference.examples import CHAT_REQUESTS, MESSAGES
from serve_app.errors import (
    CheckpointError,
    ClipError,
    ClipNotFoundError,
    ConfigurationError,
    ModelNotFoundError,
    NotReadyError,
    RateLimitedError,
    RequestError,
    ServeAppError,
    UnauthorizedError,
    UndecodableClipError,
)
from serve_app.settings import AppSettings
from serve_app.types import (
    Answer,
    AnswerDelta,
    AnswerRequest,
    LabelScores,
    ScoreRequest,
    TokenScore,
    VoiceStatistics,
)

KEYS = Path(__file__).with_name("keys.json")
KEY = {"X-API-Key": "el-secret"}
PROBES = ("/healthz", "/readyz")
ABOUT_CLIPS = ("/process_video", "/api/predict", "/v1/emotions", "/v1/chat/completions")
NUM_EXAMPLES = 15
VOICE = VoiceStatistics(0.1, -20.0, None, None, 0.0, 0, 1.0)
SCORES = (TokenScore("happy", -0.1, (("happy", -0.1), ("sad", -2.3))),)


class TalkativeService(FakeService):
    """Answers with everything that can be asked for."""

    async def answer(self, request: AnswerRequest) -> Answer:
        answer = await super().answer(request)
        voice = VOICE if request.decode_options.voice else None
        scores = () if request.sampling.num_logprobs is None else SCORES
        return replace(answer, voice=voice, scores=scores)

    async def stream(self, request: AnswerRequest) -> AsyncGenerator[AnswerDelta, None]:
        scores = () if request.sampling.num_logprobs is None else SCORES
        async for delta in super().stream(request):
            yield replace(delta, scores=scores if delta.text else ())

    async def score(self, request: ScoreRequest) -> LabelScores:
        scores = await super().score(request)
        return replace(scores, voice=VOICE if request.decode_options.voice else None)


def described(service: FakeService, **chosen: Any) -> Any:
    """The document of a server over the service."""
    limits = {"max_body_bytes": 100_000}
    settings = AppSettings.model_validate({"model": "/m", "limits": limits, **chosen})
    api = create_api(service, settings)
    return load(api.openapi(), api)


FAILING = TalkativeService()
OVER_FAILING = described(FAILING)
WITHOUT_KEYS = described(TalkativeService())
WITH_KEYS = described(TalkativeService(), access={"keys_file": KEYS})


@made_up(WITHOUT_KEYS, NUM_EXAMPLES)
def test_the_document_is_true_of_an_open_server(case: Case[Any]) -> None:
    check(case, send(case))


@made_up(WITHOUT_KEYS, NUM_EXAMPLES)
def test_the_document_is_true_for_clients_that_accept_problems(case: Case[Any]) -> None:
    headers = {"Accept": PROBLEM}
    response = send(case, headers=headers)
    check(case, response, headers=headers)
    is_gradios = "/predict" in case.path
    if response.status_code >= 400 and not is_gradios:
        assert response.headers["content-type"] == [PROBLEM]


@made_up(WITH_KEYS, NUM_EXAMPLES)
def test_the_document_is_true_for_whoever_has_a_key(case: Case[Any]) -> None:
    check(case, send(case, headers=KEY), headers=KEY)


@made_up(WITH_KEYS, 10)
def test_without_a_key_everything_but_the_probes_is_401(case: Case[Any]) -> None:
    case.headers.pop("X-API-Key", None)
    case.headers.pop("Authorization", None)
    response = send(case)
    check(case, response, is_let_in=False)
    is_open = case.path in PROBES and case.method == "GET"
    assert (response.status_code == 401) == (not is_open)


@made_up(WITHOUT_KEYS.include(path="/v1/chat/completions"), 2 * NUM_EXAMPLES)
def test_the_document_is_true_of_chats_that_are_ones(case: Case[Any]) -> None:
    """Made-up messages are hardly ever about one clip."""
    if isinstance(case.body, dict):
        case.body |= {"model": "emotion-llama", "messages": MESSAGES}
    check(case, send(case))


def kinds(kind: type[ServeAppError] = ServeAppError) -> Iterator[type[ServeAppError]]:
    """A class and our own subclasses of it: Ray subclasses every error that crosses processes."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == ServeAppError.__module__:
            yield from kinds(below)


BASES = {RequestError, ClipError}
AT_START = {CheckpointError, ConfigurationError}
BEFORE_THE_SERVICE = {UnauthorizedError, RateLimitedError, ModelNotFoundError, NotReadyError}
RAISED = [kind for kind in kinds() if kind not in BASES | AT_START | BEFORE_THE_SERVICE]


def first_example(schema: Any, path: str, body: Any = None) -> Case[Any]:
    """The first example request of a path, or one with this body."""
    content = schema[path]["POST"].definition.raw["requestBody"]["content"][JSON]
    given = next(iter(content["examples"].values()))["value"] if body is None else body
    case: Case[Any] = schema[path]["POST"].Case(body=given, media_type=JSON)
    return case


@pytest.mark.parametrize("accepted", [JSON, PROBLEM])
@pytest.mark.parametrize("path", ABOUT_CLIPS)
@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.code)
def test_every_error_of_the_service_is_in_the_document(
    kind: type[ServeAppError], path: str, accepted: str
) -> None:
    FAILING.error = kind("what was seen")
    case = first_example(OVER_FAILING, path)
    response = case.call(headers={"Accept": accepted})
    assert response.headers["x-error-code"] == [kind.code]
    case.validate_response(response, excluded_checks=[not_a_server_error, positive_data_acceptance])


def test_a_stream_may_break_into_an_error() -> None:
    service = TalkativeService()
    service.error = ServeAppError("what was seen")
    case = first_example(described(service), ABOUT_CLIPS[3], CHAT_REQUESTS["as it grows"])
    response = case.call_and_validate()
    assert response.headers["content-type"] == ["text/event-stream; charset=utf-8"]
    assert b"server_error" in response.content


@pytest.mark.parametrize("accepted", [JSON, PROBLEM])
def test_the_document_is_true_for_whoever_asks_too_often(accepted: str) -> None:
    schema = described(TalkativeService(), access={"rate": "1/day"})
    first_example(schema, "/process_video").call_and_validate()
    for path in ABOUT_CLIPS:
        case = first_example(schema, path)
        response = case.call(headers={"Accept": accepted})
        assert (response.status_code, "ratelimit" in response.headers) == (429, True)
        case.validate_response(response)


@pytest.mark.parametrize("path", [*ABOUT_CLIPS, *PROBES, "/v1/models", "/v1/status"])
def test_the_document_is_true_of_a_body_that_is_too_large(path: str) -> None:
    schema = described(TalkativeService(), limits={"max_body_bytes": 1})
    is_about_clips = path in ABOUT_CLIPS
    case = first_example(schema, path) if is_about_clips else schema[path]["GET"].Case()
    response = case.call(headers={} if is_about_clips else {"Content-Length": "2"})
    assert response.status_code == 413
    case.validate_response(response, excluded_checks=[positive_data_acceptance])


def test_the_document_is_true_of_a_server_that_is_not_ready() -> None:
    class SlowService(TalkativeService):
        async def warm_up(self) -> None: ...

    case = described(SlowService())["/readyz"]["GET"].Case()
    response = case.call()
    assert response.status_code == 503
    case.validate_response(response, excluded_checks=[not_a_server_error])


@pytest.mark.parametrize("kind", [ClipNotFoundError, UndecodableClipError])
@pytest.mark.parametrize("path", ["/process_video", "/api/predict"])
def test_the_document_is_true_of_errors_in_band(path: str, kind: type[ServeAppError]) -> None:
    service = TalkativeService()
    service.error = kind("what was seen")
    case = first_example(described(service, legacy_errors="in_band"), path)
    response = case.call()
    assert response.headers["x-error-code"] == [kind.code]
    case.validate_response(response, excluded_checks=[positive_data_acceptance])


@pytest.mark.parametrize("path", ABOUT_CLIPS)
def test_every_request_that_is_shown_is_answered(path: str) -> None:
    content = WITHOUT_KEYS[path]["POST"].definition.raw["requestBody"]["content"][JSON]
    for shown in content["examples"].values():
        response = first_example(WITHOUT_KEYS, path, shown["value"]).call_and_validate()
        assert response.status_code == 200


def test_every_answer_that_is_shown_fits_its_schema() -> None:
    num_shown = 0
    document = WITH_KEYS.raw_schema
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                for media_type, content in response["content"].items():
                    schema = {**content.get("schema", {}), "components": document["components"]}
                    for shown in content.get("examples", {}).values():
                        num_shown += 1
                        where = (path, method, status, media_type)
                        assert jsonschema_rs.is_valid(schema, shown["value"]), where
    assert num_shown > 100


def test_the_stream_that_is_shown_is_one() -> None:
    chat = WITHOUT_KEYS[ABOUT_CLIPS[3]]["POST"]
    content = chat.definition.raw["responses"]["200"]["content"]["text/event-stream"]
    response = httpx.Response(
        200,
        content=content["example"],
        headers={"Content-Type": "text/event-stream", "X-Request-Id": "r1"},
        request=httpx.Request("POST", "http://test/v1/chat/completions"),
    )
    response.elapsed = timedelta()
    chat.validate_response(response)


def test_the_document_is_openapi() -> None:
    for schema in (WITHOUT_KEYS, WITH_KEYS):
        schema.validate()


@pytest.mark.parametrize("asks_for_keys", [True, False], ids=["with keys", "open"])
def test_keys_are_asked_for_where_there_are_some(asks_for_keys: bool) -> None:
    document = (WITH_KEYS if asks_for_keys else WITHOUT_KEYS).raw_schema
    nobody: list[Any] = [] if asks_for_keys else [{}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            expected = [] if path in PROBES else [*nobody, {"ApiKey": []}, {"Bearer": []}]
            assert operation["security"] == expected
            assert ("401" in operation["responses"]) == (asks_for_keys and path not in PROBES)


def test_an_error_that_crossed_ray_changes_nothing() -> None:
    """Ray makes a class of its own from the cause's, in the process that gets it."""
    before = create_api(FakeService(), AppSettings(model=Path("/m"))).openapi()
    cause = ClipNotFoundError("no file")
    crossed = RayTaskError("decode", "a traceback", cause).as_instanceof_cause()
    assert isinstance(crossed, ClipNotFoundError)
    assert create_api(FakeService(), AppSettings(model=Path("/m"))).openapi() == before
