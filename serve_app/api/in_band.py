"""The original's errors inside answers of status 200, for callers that depend on them."""

from typing import Any

from serve_app.api.gradio_body import predict_body
from serve_app.api.paths import PREDICT, PROCESS_VIDEO
from serve_app.errors import ClipNotFoundError, ServeAppError

MISSING = "错误：视频文件不存在。"  # noqa: RUF001 - the original's sentence


def in_band_body(error: ServeAppError, path: str) -> dict[str, Any] | None:
    """The body to send with status 200; None where the original did not report this error so."""
    is_missing = isinstance(error, ClipNotFoundError)
    if path in PREDICT and is_missing:
        return predict_body(MISSING, 0.0, 0.0)
    if path == PROCESS_VIDEO:
        return {"response": MISSING} if is_missing else {"error": f"{error.title}: {error.message}"}
    return None
