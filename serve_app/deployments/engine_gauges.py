"""The engine's load, every other second: Ray forgets a gauge that is not set; an idle engine sets none."""

import asyncio
from collections import defaultdict

from prometheus_client import REGISTRY

from serve_app.metrics import ENGINE_REQUESTS, KV_CACHE_USAGE, Meter

PERIOD_S = 2.0
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
KV_CACHE = "vllm:kv_cache_usage_perc"  # a share, 0..1, whatever its name says


async def report_engine(meter: Meter) -> None:
    """Until it is cancelled. The engine must report to this process's registry: see stat_loggers."""
    while True:
        now = vllm_gauges()
        meter.record(ENGINE_REQUESTS, now[RUNNING], state="running")
        meter.record(ENGINE_REQUESTS, now[WAITING], state="waiting")
        meter.record(KV_CACHE_USAGE, now[KV_CACHE])
        await asyncio.sleep(PERIOD_S)


def vllm_gauges() -> dict[str, float]:
    """By vLLM's names; 0 for what it has not set yet."""
    found: dict[str, float] = defaultdict(float)
    for metric in REGISTRY.collect():
        if metric.name.startswith("vllm:") and metric.type == "gauge":
            for sample in metric.samples:
                found[sample.name] += sample.value
    return found
