"""Whether this process sends spans. Off by default: then nothing of OpenTelemetry is imported."""

import os

from serve_app.errors import ConfigurationError
from serve_app.settings import TraceSettings
from serve_app.traces import NoTraces, Traces

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def open_traces(settings: TraceSettings, deployment: str) -> Traces:
    """Of one process; on where the settings or OpenTelemetry's own variables name a collector.

    Args:
        deployment: whose process it is.

    Raises:
        ConfigurationError: OpenTelemetry is not installed, or OTEL_EXPORTER_OTLP_PROTOCOL asks for another
            protocol than OTLP over HTTP.
    """
    if settings.endpoint is None and not any(map(os.environ.get, ENDPOINTS)):
        return NoTraces()
    try:
        from serve_app.otlp import OtlpTraces
    except ImportError as error:
        raise ConfigurationError(f"traces need the extra `traces`: {error}") from error
    return OtlpTraces(settings.endpoint, deployment)
