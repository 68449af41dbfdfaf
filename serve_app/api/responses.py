"""What the routes answer, for the OpenAPI document. They build plain dicts; a test holds those to this."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.clip_body import JSON
from serve_app.api.examples import named
from serve_app.types import Answer, LayoutName, Parity, Tokenization, Usage, VoiceStatistics


def ref(model: type[BaseModel]) -> dict[str, str]:
    """To where the document has its schema."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def answer_schema(
    model: type[BaseModel], examples: dict[str, Any], others: dict[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: status 200. FastAPI takes it for documentation alone and checks no answer.

    Args:
        examples: of JSON, by their names.
        others: content of other types.
    """
    content = {JSON: {"examples": named(examples)}, **(others or {})}
    return {200: {"description": "The answer.", "model": model, "content": content}}


class Body(BaseModel):
    """Base: nothing else is in it."""

    model_config = ConfigDict(extra="forbid")


def left_out(description: str) -> Any:
    """A field that is left out, not null, where it was not asked for."""
    return Field(default_factory=dict, description=description)


class Status(Body):
    """Of a probe."""

    status: Literal["ok", "ready"]


class RequestsInside(Body):
    """Of the ingress replica that answers."""

    in_flight: int = Field(ge=0)
    oldest_s: float = Field(ge=0, description="How long the oldest has been inside; 0 without any.")
    limit: int = Field(gt=0, description="limits.max_in_flight: beyond it is 503.")


class DeploymentStatus(Body):
    """As Ray Serve has it."""

    status: str = Field(description="HEALTHY, UPDATING, UNHEALTHY, ...")
    replicas: dict[str, int] = Field(description="How many are RUNNING, STARTING, ...")


class ServedModel(Body):
    name: str
    sha256: str | None = Field(
        description="As in each answer's provenance; null: not on this node."
    )


class Versions(Body):
    """Null where it is not installed on this node."""

    emotion_llama: str
    ray: str | None
    vllm: str | None
    torch: str | None


class ChosenSettings(Body):
    """What changes answers, and what limits them: serve_app/settings.py."""

    parity: Parity
    layout: LayoutName
    tokenization: Tokenization
    legacy_errors: Literal["status", "in_band"]
    dtype: str
    max_model_len: int
    max_num_seqs: int
    request_timeout_s: float
    keeps_answers: bool = Field(description="answer_cache is on.")


class ServerStatusAnswer(Body):
    """Of a server."""

    status: Literal["starting", "ready"]
    uptime_s: float = Field(ge=0, description="Of the ingress replica that answers.")
    requests: RequestsInside
    deployments: dict[str, DeploymentStatus] | None = Field(
        description="By name; null: Serve's controller does not answer."
    )
    model: ServedModel
    versions: Versions
    settings: ChosenSettings


class ProcessVideoAnswer(Body):
    """The original's, and what was asked for beside it. What was not asked for is left out."""

    response: str
    voice: VoiceStatistics = left_out("With `voice`.")
    details: Answer = left_out("With `details`.")


class InBandError(Body):
    """An error of status 200, as the original gave it: only with `legacy_errors: in_band`."""

    error: str


class PredictAnswer(Body):
    """Gradio's six keys."""

    data: list[str] = Field(min_length=1, max_length=1, description="The answer.")
    is_generating: Literal[False]
    duration: float = Field(ge=0, description="Seconds inside the function.")
    average_duration: float = Field(ge=0, description="Of all calls of this replica.")
    render_config: None
    changed_state_ids: list[str] = Field(max_length=0)


class LabelProbability(Body):
    label: str
    probability: float = Field(ge=0, le=1)


class EmotionsAnswer(Body):
    """The most probable label, and all of them in the order they were given."""

    emotion: str
    confidence: float = Field(ge=0, le=1, description="Of that label.")
    probabilities: list[LabelProbability] = Field(description="They add up to 1.")
    label_mass: float = Field(
        ge=0, le=1, description="What the model by itself puts on all of them together."
    )
    voice: VoiceStatistics = left_out("With `voice`.")
    explanation: str = left_out("With `explain`.")
    transcript: str = left_out("As it was given.")
    usage: Usage
    timings_ms: dict[str, float]
    provenance: dict[str, Any]


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
