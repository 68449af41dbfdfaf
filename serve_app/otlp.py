"""Exports spans by OTLP over HTTP. OpenTelemetry's own variables set sampling, headers and timeouts."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve_app import __version__
from serve_app.errors import ConfigurationError, ServeAppError
from serve_app.traces import NoSpan, Span

SERVICE_NAME = "emotion-llama"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
W3C = TraceContextTextMapPropagator()


class OtlpTraces:
    """Traces that are exported by OTLP. See Traces."""

    def __init__(self, endpoint: str | None, deployment: str) -> None:
        """`endpoint` is a collector's URL, such as http://collector:4318; None: that of the environment."""
        for name in PROTOCOLS:
            if os.environ.get(name, PROTOCOL) != PROTOCOL:
                raise ConfigurationError(f"{name} is {os.environ[name]}; it can be {PROTOCOL}")
        url = None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces"
        about = {"emotion_llama.deployment": deployment, "service.version": __version__}
        if "OTEL_SERVICE_NAME" not in os.environ:
            about["service.name"] = SERVICE_NAME
        self._provider = TracerProvider(resource=Resource.create(about))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("serve_app", __version__)

    @contextmanager
    def span(self, name: str, traceparent: str | None, begins: bool = False) -> Iterator[Span]:
        """See Traces."""
        if traceparent is None and not begins:
            yield NoSpan()
            return
        parent = W3C.extract({} if traceparent is None else {"traceparent": traceparent})
        started_ns = time.time_ns()
        span = self._tracer.start_span(name, parent, start_time=started_ns)
        wrapped = OtlpSpan(self._tracer, span, started_ns)
        try:
            yield wrapped
        except BaseException as error:
            is_ours = isinstance(error, ServeAppError)
            wrapped.fail(error.code if is_ours else type(error).__name__)  # type: ignore[attr-defined]
            raise
        finally:
            span.end()

    def close(self) -> None:
        """See Traces."""
        self._provider.shutdown()


class OtlpSpan:
    """See Span."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span, started_ns: int) -> None:
        self._tracer, self._span, self._started_ns = tracer, span, started_ns

    @property
    def traceparent(self) -> str | None:
        """See Span."""
        carrier: dict[str, str] = {}
        W3C.inject(carrier, trace.set_span_in_context(self._span))
        return carrier.get("traceparent")

    def set(self, attributes: Mapping[str, str | int | float]) -> None:
        """See Span."""
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """See Span."""
        self._span.update_name(name)

    def fail(self, code: str) -> None:
        """See Span."""
        self._span.set_attribute("error.type", code)
        self._span.set_status(trace.StatusCode.ERROR)

    def add_parts(self, ends_s: Mapping[str, float]) -> None:
        """See Span."""
        context = trace.set_span_in_context(self._span)
        # These times come from another clock than the spans', so parts are cut off at the current time.
        begins_ns, now_ns = self._started_ns, time.time_ns()
        for name, end_s in ends_s.items():
            ends_ns = max(begins_ns, min(now_ns, self._started_ns + int(end_s * 1e9)))
            self._tracer.start_span(name, context, start_time=begins_ns).end(ends_ns)
            begins_ns = ends_ns
