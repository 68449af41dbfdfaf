"""The body of Gradio's answers, for its routes and for errors inside answers of status 200."""

from typing import Any


def predict_body(text: str, duration_s: float, average_s: float) -> dict[str, Any]:
    """Gradio's answer: its six keys, in its order."""
    return {
        "data": [text],
        "is_generating": False,
        "duration": duration_s,
        "average_duration": average_s,
        "render_config": None,
        "changed_state_ids": [],
    }
