"""X-Cache: hit or miss, where answers are kept at all."""

from starlette.responses import Response

from serve_app.types import CacheStatus

HEADER = "X-Cache"


def add_cache_header(response: Response, *statuses: CacheStatus) -> None:
    """A hit is one only if every part of the answer was."""
    known = [status for status in statuses if status is not None]
    if known:
        response.headers[HEADER] = "miss" if "miss" in known else "hit"
