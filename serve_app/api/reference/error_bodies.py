"""Errors in each of the forms that api/errors.py renders, and api/in_band.py."""

from pydantic import Field

from serve_app.api.reference.schemas import Body


class ErrorBody(Body):
    """Of the original's routes."""

    error: str = Field(description="The error's title: the same for the same code.")
    code: int = Field(description="The status.")
    details: str = Field(description="What was seen, and what is allowed.")


class ErrorTitle(Body):
    """Of the original's routes, for a key that is missing or a rate that is exceeded: as its guide has it."""

    error: str


class GradioProblem(Body):
    type: str
    loc: list[str | int]
    msg: str


class GradioInvalid(Body):
    """Gradio's, for a body of the wrong form."""

    detail: list[GradioProblem]


class GradioRefused(Body):
    """Gradio's, for a body that cannot be read."""

    detail: str


class OpenAIErrorObject(Body):
    message: str
    type: str = Field(description="A class of errors, by the status.")
    param: None
    code: str = Field(description="The same as X-Error-Code.")


class OpenAIError(Body):
    """Of the routes under /v1."""

    error: OpenAIErrorObject


class Problem(Body):
    """RFC 9457's, where `Accept` asks for application/problem+json."""

    type: str = Field(pattern="^urn:emotion-llama:error:")
    title: str
    status: int
    detail: str
    instance: str = Field(pattern="^urn:request:", description="The request's id.")
    code: str = Field(description="The same as X-Error-Code.")


class InBandError(Body):
    """An error of status 200, as the original gave it: only with `legacy_errors: in_band`."""

    error: str


ERROR_BODIES = (
    ErrorBody,
    ErrorTitle,
    GradioInvalid,
    GradioRefused,
    OpenAIError,
    Problem,
    InBandError,
)
