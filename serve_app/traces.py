"""Interface of the spans of a request across the stages, and its no-op for when traces are off."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class Span(Protocol):
    """A part of a request in progress."""

    @property
    def traceparent(self) -> str | None:
        """W3C's header for child spans in other processes; None while traces are off."""

    def set(self, attributes: Mapping[str, str | int | float]) -> None:
        """Add attributes. Never a question, an answer, or anything of a clip."""

    def rename(self, name: str) -> None:
        """Change the span's name, once the route is known."""

    def fail(self, code: str) -> None:
        """Mark the span as failed with this error code. Not the message: it may name a file."""

    def add_parts(self, ends_s: Mapping[str, float]) -> None:
        """Add consecutive child spans, each given by its end in seconds after this span's start."""


class Traces(Protocol):
    @contextmanager
    def span(self, name: str, traceparent: str | None, begins: bool = False) -> Iterator[Span]:
        """A span that lasts as long as the block, as a child of `traceparent`'s span. An exception fails it.

        Args:
            begins: without a traceparent, start a new trace; otherwise there is no span then.
        """

    def close(self) -> None:
        """Send the spans that are not sent yet."""


class NoSpan:
    """A Span that records nothing."""

    traceparent: str | None = None

    def set(self, attributes: Mapping[str, str | int | float]) -> None: ...

    def rename(self, name: str) -> None: ...

    def fail(self, code: str) -> None: ...

    def add_parts(self, ends_s: Mapping[str, float]) -> None: ...


class NoTraces:
    """Traces that record nothing."""

    @contextmanager
    def span(self, name: str, traceparent: str | None, begins: bool = False) -> Iterator[Span]:
        yield NoSpan()

    def close(self) -> None: ...
