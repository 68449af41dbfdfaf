"""Reads vLLM's Prometheus gauges. A process holds one engine, so they are its engine's."""

# vLLM's names. The last one is a share, not a percentage.
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
KV_CACHE_USAGE = "vllm:kv_cache_usage_perc"


def gauge(name: str) -> float:
    """Value of this gauge after the engine's last step."""
    from prometheus_client import REGISTRY

    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return float(sum(sample.value for sample in samples if sample.name == name))
