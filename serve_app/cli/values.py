"""Parses option values that more than one command takes."""

import math
from typing import Any


def name_or_seconds(value: Any) -> Any:
    """Parses a frame choice: a finite number is a time in seconds, anything else a name."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return value
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return str(value)
    return seconds if math.isfinite(seconds) else str(value)
