"""What is recorded about each request besides its log line: metrics, a span, the number in flight."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from serve_app.in_flight import InFlight
from serve_app.metrics import (
    IN_FLIGHT,
    NO_ROUTE,
    OLDEST_SECONDS,
    TOKENS,
    Meter,
    NoMeter,
    record_request,
)
from serve_app.traces import NoSpan, NoTraces, Span, Traces


@dataclass(frozen=True, slots=True)
class Observers:
    """Metrics, traces and in-flight count of one process. The defaults record nothing."""

    meter: Meter = field(default_factory=NoMeter)
    traces: Traces = field(default_factory=NoTraces)
    in_flight: InFlight = field(default_factory=InFlight)

    @contextmanager
    def request(self, scope: Scope) -> Iterator[Span]:
        """Count a request as in flight and open its span while the block runs. Only POST requests, which are
        those that use the stages, are counted."""
        if scope["method"] != "POST":
            yield NoSpan()
            return
        sent = Headers(scope=scope).get("traceparent")
        with self.in_flight.request(), self.traces.span("POST", sent, begins=True) as span:
            yield span

    def ended(self, span: Span, line: Mapping[str, Any]) -> None:
        """Record a finished request from the fields of its log line."""
        record_request(self.meter, line)
        route = line["route"] or NO_ROUTE
        span.rename(f"{line['method']} {route}")
        span.set(
            {
                "http.request.method": line["method"],
                "http.route": route,
                "http.response.status_code": line["status"],
                "emotion_llama.request_id": line["request_id"],
                **{
                    f"emotion_llama.{kind}_tokens": line[f"{kind}_tokens"]
                    for kind in TOKENS
                    if f"{kind}_tokens" in line
                },
            }
        )
        if "error_code" in line:
            span.fail(line["error_code"])

    def sample(self) -> None:
        """Set the gauges. Nothing else updates them."""
        self.meter.record(IN_FLIGHT, self.in_flight.num_requests)
        self.meter.record(OLDEST_SECONDS, self.in_flight.oldest_s)
