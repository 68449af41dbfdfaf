"""Values of options that more than one command takes."""

import math
from typing import Any


def name_or_seconds(value: Any) -> Any:
    """A frame choice as it was written: a finite number is a time in seconds, all else a name."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return value
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return str(value)
    return seconds if math.isfinite(seconds) else str(value)
