"""Back-pressure: bounds the number of units between manifest and driver, however long the manifest is."""

import asyncio


class Tickets:
    """A Ray actor. The reader waits for a ticket; the driver returns one for each answered unit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._num_answered = 0
        self._changed = asyncio.Condition()

    async def wait(self, number: int) -> None:
        """Waits until unit `number` (from 0) may go in. A reader that starts over does not wait again."""
        async with self._changed:
            await self._changed.wait_for(lambda: number < self._num_answered + self._limit)

    async def answered(self) -> None:
        """Notes that one more unit has been answered."""
        async with self._changed:
            self._num_answered += 1
            self._changed.notify_all()
