"""Schemas of the error bodies that api/errors.py and api/in_band.py write."""

from pydantic import Field

from serve_app.api.reference.schemas import Body


class ErrorBody(Body):
    """An error of the original's routes."""

    error: str = Field(description="The error's title: the same for the same code.")
    code: int = Field(description="The status.")
    details: str = Field(description="What was seen, and what is allowed.")


class ErrorTitle(Body):
    """A missing key or an exceeded rate on the original's routes, in the form of the original's guide."""

    error: str


class GradioProblem(Body):
    type: str
    loc: list[str | int]
    msg: str


class GradioInvalid(Body):
    """Gradio's error for a body of the wrong form."""

    detail: list[GradioProblem]


class GradioRefused(Body):
    """Gradio's error for a body that cannot be read."""

    detail: str


class OpenAIErrorObject(Body):
    message: str
    type: str = Field(description="A class of errors, by the status.")
    param: None
    code: str = Field(description="The same as X-Error-Code.")


class OpenAIError(Body):
    """An error of the routes under /v1, in OpenAI's form."""

    error: OpenAIErrorObject


class Problem(Body):
    """The problem details of RFC 9457, where `Accept` asks for application/problem+json."""

    type: str = Field(pattern="^urn:emotion-llama:error:")
    title: str
    status: int
    detail: str
    instance: str = Field(pattern="^urn:request:", description="The request's id.")
    code: str = Field(description="The same as X-Error-Code.")


class InBandError(Body):
    """The original's error with status 200; only with `legacy_errors: in_band`."""

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
