"""An event loop in a background thread: Ray Data calls our stages from several plain threads at a time."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Lives as long as its process: objects created in the loop may be tied to its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Blocks until the coroutine has finished. Call it from any thread but the loop's own."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
