"""Schemas of the routes' answers. The routes build plain dicts; a test checks those against the schemas."""

from typing import Any, Literal

from pydantic import Field

from serve_app.api.reference.schemas import Body, left_out
from serve_app.types import Answer, LayoutName, Parity, Tokenization, Usage, VoiceStatistics


class Status(Body):
    """The answer to a probe."""

    status: Literal["ok", "ready"]


class RequestsInside(Body):
    """Requests in flight in the ingress replica that answers."""

    in_flight: int = Field(ge=0)
    oldest_s: float = Field(ge=0, description="Age of the oldest one; 0 without any.")
    limit: int = Field(gt=0, description="limits.max_in_flight: beyond it is 503.")


class DeploymentStatus(Body):
    """A deployment's state as Ray Serve reports it."""

    status: str = Field(description="HEALTHY, UPDATING, UNHEALTHY, ...")
    replicas: dict[str, int] = Field(description="How many are RUNNING, STARTING, ...")


class ServedModel(Body):
    name: str
    sha256: str | None = Field(
        description="As in each answer's provenance; null: not on this node."
    )


class Versions(Body):
    """Versions on this node; null for what is not installed."""

    emotion_llama: str
    ray: str | None
    vllm: str | None
    torch: str | None


class ChosenSettings(Body):
    """The settings that change answers or limit them."""

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
    """Status of the server."""

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
    """The original's answer, with the parts that were asked for besides it."""

    response: str
    voice: VoiceStatistics = left_out("With `voice`.")
    details: Answer = left_out("With `details`.")


class PredictAnswer(Body):
    """The answer in Gradio's form."""

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
    """The most probable label, and the probability of each label, in the order of the request."""

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
