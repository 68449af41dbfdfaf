"""Keeps Python's garbage collector out of an engine's start and out of what the start leaves behind."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection in the block; what is alive at its end is never examined again.

    A quarter of the time that the import of vLLM takes is spent in collections that find nothing
    (docs/performance.md). Afterwards each full collection would again walk through all that was imported,
    in the middle of requests.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
