"""Back-pressure: so many units between manifest and driver, however long the manifest is."""

import asyncio


class Tickets:
    """An actor of its own, which the reader waits for and the driver tells."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._num_answered = 0
        self._changed = asyncio.Condition()

    async def wait(self, number: int) -> None:
        """Until unit `number`, from 0, may go in. A reader that begins anew waits for nothing twice."""
        async with self._changed:
            await self._changed.wait_for(lambda: number < self._num_answered + self._limit)

    async def answered(self) -> None:
        """One unit has come out."""
        async with self._changed:
            self._num_answered += 1
            self._changed.notify_all()
