"""Our metrics through Ray: each node's endpoint has them beside Ray's own and vLLM's."""

from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from serve_app.metrics import LATENCY_BUCKETS_S, METRICS, Metric


class RayMeter:
    """A Meter. Make one per process, inside of Ray."""

    def __init__(self) -> None:
        self._record = {metric: _recorder(metric) for metric in METRICS}

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        """See Meter."""
        self._record[metric](value, labels)


def _recorder(metric: Metric) -> Any:
    about = {"description": metric.description, "tag_keys": metric.labels}
    if metric.kind == "counter":
        return Counter(metric.name, **about).inc
    if metric.kind == "gauge":
        return Gauge(metric.name, **about).set
    return Histogram(metric.name, boundaries=list(LATENCY_BUCKETS_S), **about).observe
