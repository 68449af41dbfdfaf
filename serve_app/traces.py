"""Spans of a request across the stages, and those of a process whose traces are off."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class Span(Protocol):
    """Part of a request that is being worked on."""

    @property
    def traceparent(self) -> str | None:
        """For whoever works on a part of this part: W3C's header; None while traces are off."""

    def set(self, attributes: Mapping[str, str | int | float]) -> None:
        """Never a question, an answer, or anything of a clip."""

    def rename(self, name: str) -> None:
        """Once its name is known."""

    def fail(self, code: str) -> None:
        """By the error's code alone: its message may name a file."""

    def add_parts(self, ends_s: Mapping[str, float]) -> None:
        """Parts that followed one another, by when each ended, in seconds after this span's beginning."""


class Traces(Protocol):
    @contextmanager
    def span(self, name: str, traceparent: str | None, begins: bool = False) -> Iterator[Span]:
        """Lasts as long as the block, below the span that `traceparent` names; an error fails it.

        Without one it `begins` a trace, or is none.
        """

    def close(self) -> None:
        """Sends what is not sent yet."""


class NoSpan:
    """A Span of nothing."""

    traceparent: str | None = None

    def set(self, attributes: Mapping[str, str | int | float]) -> None: ...

    def rename(self, name: str) -> None: ...

    def fail(self, code: str) -> None: ...

    def add_parts(self, ends_s: Mapping[str, float]) -> None: ...


class NoTraces:
    """Traces that are off."""

    @contextmanager
    def span(self, name: str, traceparent: str | None, begins: bool = False) -> Iterator[Span]:
        yield NoSpan()

    def close(self) -> None: ...
