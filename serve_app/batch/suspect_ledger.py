"""Records which rows were inside an engine when it died, so that a row that kills engines is found."""

from collections import Counter
from collections.abc import Sequence


class SuspectLedger:
    """Counts for each row the engines that died with it inside. A Ray actor, because it outlives engines."""

    def __init__(self) -> None:
        self._entered: Counter[int] = Counter()

    def deaths(self, numbers: Sequence[int]) -> list[int]:
        """How often each row entered an engine and never left it."""
        return [self._entered[number] for number in numbers]

    def enter(self, numbers: Sequence[int]) -> None:
        self._entered.update(numbers)

    def leave(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self._entered[number]
