"""Switches traces on or off for this process. Off is the default, and imports nothing of OpenTelemetry."""

import os

from serve_app.errors import ConfigurationError
from serve_app.settings import TraceSettings
from serve_app.traces import NoTraces, Traces

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def open_traces(settings: TraceSettings, deployment: str) -> Traces:
    """Open this process's tracer; a no-op unless the settings or OpenTelemetry's variables name a collector.

    Args:
        deployment: name of the deployment this process belongs to.

    Raises:
        ConfigurationError: OpenTelemetry is not installed, or OTEL_EXPORTER_OTLP_PROTOCOL asks for a
            protocol other than OTLP over HTTP.
    """
    if settings.endpoint is None and not any(map(os.environ.get, ENDPOINTS)):
        return NoTraces()
    try:
        from serve_app.otlp import OtlpTraces
    except ImportError as error:
        raise ConfigurationError(f"traces need the extra `traces`: {error}") from error
    return OtlpTraces(settings.endpoint, deployment)
