"""The metrics that are ours, by name, and what a request or a decoded clip adds to them. Knows no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
STAGES = ("decode", "queue", "first_token", "total", "explanation")
TOKENS = ("prompt", "completion", "cached")
NO_ROUTE = "none"  # of a path that no route has: it may hold anything
NONE = "none"  # of a label that a request has nothing for


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Prometheus sees it with `ray_` before its name, and a counter with `_total` behind it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    labels: tuple[str, ...] = ()

    @property
    def exported_name(self) -> str:
        """As it stands in a scrape of Ray's endpoint."""
        return f"ray_{self.name}_total" if self.kind == "counter" else f"ray_{self.name}"


REQUESTS = Metric(
    "emotion_llama_requests",
    "counter",
    "Requests that have ended.",
    ("route", "status", "code", "key"),
)
REQUEST_SECONDS = Metric(
    "emotion_llama_request_seconds",
    "histogram",
    "From a request's arrival at the ingress to its last byte.",
    ("route",),
)
STAGE_SECONDS = Metric(
    "emotion_llama_stage_seconds",
    "histogram",
    "Of answered requests: decode; queue (all waiting); first_token and total, from the arrival on.",
    ("stage",),
)
TOKEN_COUNT = Metric(
    "emotion_llama_tokens",
    "counter",
    "Of prompts and of answers; cached are those of prompts that the prefix cache had.",
    ("kind", "key"),
)
ANSWER_CACHE = Metric(
    "emotion_llama_answer_cache",
    "counter",
    "Answers that could have been given before (miss), and that were (hit).",
    ("result",),
)
ATTEMPTS = Metric(
    "emotion_llama_attempts",
    "counter",
    "Attempts that brought no answer in time: lost with a replica, gone (its engine had died before), "
    "hedged (silent, asked elsewhere too), poisoned (refused: two replicas died over it).",
    ("outcome",),
)
IN_FLIGHT = Metric(
    "emotion_llama_requests_in_flight", "gauge", "Requests inside this ingress replica."
)
OLDEST_SECONDS = Metric(
    "emotion_llama_oldest_request_seconds", "gauge", "Age of the oldest of them; 0 without any."
)
CLIPS = Metric(
    "emotion_llama_clips",
    "counter",
    "Clips handed to the engine, also for warm-ups and further attempts: decoded, or held (hit).",
    ("result",),
)
CLIP_FAILURES = Metric(
    "emotion_llama_clip_failures",
    "counter",
    "Clips that could not be had, by the error's code.",
    ("code",),
)
CLIP_WAIT_SECONDS = Metric(
    "emotion_llama_clip_wait_seconds",
    "histogram",
    "What a clip waited for a decode worker.",
)
ENGINE_REQUESTS = Metric(
    "emotion_llama_engine_requests",
    "gauge",
    "Requests in the engine's batch (running), and those that wait to be in it.",
    ("state",),
)
KV_CACHE_USAGE = Metric(
    "emotion_llama_kv_cache_usage", "gauge", "Share of the engine's KV cache in use, 0 to 1."
)
METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    STAGE_SECONDS,
    TOKEN_COUNT,
    ANSWER_CACHE,
    ATTEMPTS,
    IN_FLIGHT,
    OLDEST_SECONDS,
    CLIPS,
    CLIP_FAILURES,
    CLIP_WAIT_SECONDS,
    ENGINE_REQUESTS,
    KV_CACHE_USAGE,
)


class Meter(Protocol):
    """Adds to a counter, observes in a histogram, or sets a gauge: as the metric's kind says."""

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        """With a value for each of the metric's labels."""


class NoMeter:
    """A Meter where nobody scrapes: tests, the command line."""

    def record(self, metric: Metric, value: float, **labels: str) -> None: ...


def record_request(meter: Meter, line: Mapping[str, Any]) -> None:
    """A request that has ended, by its line in the log."""
    route, key = line["route"] or NO_ROUTE, line.get("key", NONE)
    status, code = str(line["status"]), line.get("error_code", NONE)
    meter.record(REQUESTS, 1, route=route, status=status, code=code, key=key)
    meter.record(REQUEST_SECONDS, line["elapsed_ms"] / 1e3, route=route)
    for stage in STAGES:
        if f"{stage}_ms" in line:
            meter.record(STAGE_SECONDS, line[f"{stage}_ms"] / 1e3, stage=stage)
    for kind in TOKENS:
        if line.get(f"{kind}_tokens"):
            meter.record(TOKEN_COUNT, line[f"{kind}_tokens"], kind=kind, key=key)
    if "cache" in line:
        meter.record(ANSWER_CACHE, 1, result=line["cache"])
