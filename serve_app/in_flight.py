"""The requests in progress, and since when."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class InFlight:
    """Counts the requests this process is handling."""

    def __init__(self) -> None:
        self._started: dict[int, float] = {}  # in the order of their arrival
        self._num_seen = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request as in progress while the block runs."""
        self._num_seen += 1
        number = self._num_seen
        self._started[number] = time.monotonic()
        try:
            yield
        finally:
            del self._started[number]

    @property
    def num_requests(self) -> int:
        return len(self._started)

    @property
    def oldest_s(self) -> float:
        """Age of the oldest request in progress; 0 without any."""
        oldest = next(iter(self._started.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest
