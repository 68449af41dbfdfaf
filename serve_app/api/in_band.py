"""Errors as the original gave them, inside answers of status 200, for callers that depend on it."""

from typing import Any

from serve_app.api.paths import PREDICT, PROCESS_VIDEO
from serve_app.errors import ClipNotFoundError, ServeAppError

MISSING = "错误：视频文件不存在。"  # noqa: RUF001 - the original's sentence


def in_band_body(error: ServeAppError, path: str) -> dict[str, Any] | None:
    """The body of status 200; None where the original had none."""
    is_missing = isinstance(error, ClipNotFoundError)
    if path in PREDICT and is_missing:
        return predict_body(MISSING, 0.0, 0.0)
    if path == PROCESS_VIDEO:
        return {"response": MISSING} if is_missing else {"error": f"{error.title}: {error.message}"}
    return None


def predict_body(text: str, duration_s: float, average_s: float) -> dict[str, Any]:
    """What Gradio answers: the six keys, in its order."""
    return {
        "data": [text],
        "is_generating": False,
        "duration": duration_s,
        "average_duration": average_s,
        "render_config": None,
        "changed_state_ids": [],
    }
