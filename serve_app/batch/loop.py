"""An event loop in a thread of its own: Ray Data calls our stages in plain threads, several at a time."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Lives as long as its process does: what is started in it may belong to its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Blocks until it has ended. From any thread but the loop's own."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
