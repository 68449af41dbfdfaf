"""Timings of a request as its caller saw them; the same definition over HTTP and in one process."""

import time
from collections.abc import Mapping


def ms_since(started: float) -> float:
    """Milliseconds since a reading of `time.perf_counter`."""
    return (time.perf_counter() - started) * 1e3


def answer_timings_ms(stages: Mapping[str, float], elapsed_ms: float) -> dict[str, float]:
    """Timings of an answer, from the stages' own timings.

    Args:
        stages: `decode`, and the engine's `queue`, `first_token` and `total`.
        elapsed_ms: from the request's arrival to its last token.

    Time that neither the decode worker nor the engine accounts for is waiting time and goes into `queue`.
    """
    outside_ms = elapsed_ms - stages["decode"] - stages["total"]
    return {
        "decode": stages["decode"],
        "queue": outside_ms + stages["queue"],
        "first_token": elapsed_ms - stages["total"] + stages["first_token"],
        "total": elapsed_ms,
    }


def score_timings_ms(stages: Mapping[str, float], elapsed_ms: float) -> dict[str, float]:
    """Timings of label scores. They have no `queue`: scoring takes many short requests, each with its own."""
    return {"decode": stages["decode"], "total": elapsed_ms}
