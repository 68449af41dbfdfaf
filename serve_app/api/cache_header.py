"""The X-Cache header, hit or miss, where the answer cache is on."""

from starlette.responses import Response

from serve_app.types import CacheStatus

HEADER = "X-Cache"


def add_cache_header(response: Response, *statuses: CacheStatus) -> None:
    """Add X-Cache. It is a hit only if every part of the answer was one."""
    known = [status for status in statuses if status is not None]
    if known:
        response.headers[HEADER] = "miss" if "miss" in known else "hit"
