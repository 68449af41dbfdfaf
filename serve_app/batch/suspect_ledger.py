"""Which rows were inside an engine when it died: so that one that kills engines does not do it for ever."""

from collections import Counter
from collections.abc import Sequence


class SuspectLedger:
    """An actor of its own: what it knows must outlive the engines."""

    def __init__(self) -> None:
        self._entered: Counter[int] = Counter()

    def deaths(self, numbers: Sequence[int]) -> list[int]:
        """How often each row was inside an engine and did not come out again."""
        return [self._entered[number] for number in numbers]

    def enter(self, numbers: Sequence[int]) -> None:
        self._entered.update(numbers)

    def leave(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self._entered[number]
