"""Requests made up from our OpenAPI document, and how their answers are held to it."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

Test = TypeVar("Test", bound=Callable[..., None])

JSON, FORM, PROBLEM = "application/json", "multipart/form-data", "application/problem+json"
CONFIG = {"seed": 1, "generation": {"deterministic": True}}
CHAT = "/v1/chat/completions"  # which messages are a chat is more than a schema says
BOOLEANS = {"details", "explain", "voice"}
# Where there is only text, a boolean may be any of these, and the document says `boolean`.
TEXT_BOOLEANS = {"0", "1", "f", "false", "n", "no", "off", "on", "t", "true", "y", "yes"}
# JSON inside a form: the document says so, and the requests made up from it are any text.
JSON_TEXTS = {"labels", "features"}


@schemathesis.serializer("video/mp4", "audio/wav")
def _as_it_is(context: Any, value: Any) -> bytes:
    """For video/* and audio/*, of which schemathesis sends none by itself."""
    return value if isinstance(value, bytes) else str(value).encode()


def load(document: dict[str, Any], app: Any = None) -> Any:
    """The document as schemathesis has it; over `app`, or whatever a request's base URL names."""
    config = schemathesis.Config.from_dict(CONFIG)
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = app
    return schema


def made_up(schema: Any, num_requests: int) -> Callable[[Test], Test]:
    """Runs a test for each operation: the shown requests, those at the edges, and so many others.

    They are the same ones every time.
    """
    chosen = settings(
        max_examples=num_requests,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Test) -> Test:
        return cast(Test, schema.parametrize()(chosen(test)))

    return decorate


def send(case: Case[Any], **arguments: Any) -> Any:
    """The answer. Its request has fields in the query only where they belong there, or are wrong."""
    is_wrong = case.meta is not None and case.meta.is_negative_at(ParameterLocation.QUERY)
    if case.query and case.media_type in (JSON, FORM) and not is_wrong:
        case.query = {}
    return case.call(**arguments)


def check(
    case: Case[Any],
    response: Any,
    is_let_in: bool = True,
    accepts_all: bool = True,
    **arguments: Any,
) -> None:
    """Raises for whatever the document does not say.

    Args:
        is_let_in: else everything is refused, whatever it is.
        accepts_all: what fits the schemas is answered, as if every clip were one.
    """
    excluded = [] if is_let_in else [unsupported_method]
    texts = _texts(case)
    lacks_question = case.media_type not in (JSON, FORM) and "question" not in texts
    if (
        not (is_let_in and accepts_all)
        or lacks_question
        or case.path == CHAT
        or JSON_TEXTS & texts.keys()
    ):
        excluded.append(positive_data_acceptance)
    booleans = {str(texts[name]).lower() for name in BOOLEANS & texts.keys()}
    if TEXT_BOOLEANS & booleans:
        excluded.append(negative_data_rejection)
    case.validate_response(response, excluded_checks=excluded, **arguments)


def _texts(case: Case[Any]) -> dict[str, Any]:
    """The fields that travel as text."""
    form = case.body if case.media_type == FORM and isinstance(case.body, dict) else {}
    query = {} if case.media_type == JSON else case.query or {}
    return {**form, **query}
