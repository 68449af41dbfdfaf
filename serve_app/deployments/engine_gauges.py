"""Publishes the engine's load every 2 s, for Ray drops a gauge that is not set again."""

import asyncio
import logging
from collections.abc import Callable

from serve_app.metrics import ENGINE_REQUESTS, KV_CACHE_USAGE, Meter
from serve_app.types import EngineLoad

logger = logging.getLogger(__name__)

PERIOD_S = 2.0


async def report_engine(current_load: Callable[[], EngineLoad], meter: Meter) -> None:
    """Runs until it is cancelled, whatever goes wrong once: alerts rely on it."""
    while True:
        try:
            now = current_load()
            meter.record(ENGINE_REQUESTS, now.num_running, state="running")
            meter.record(ENGINE_REQUESTS, now.num_waiting, state="waiting")
            meter.record(KV_CACHE_USAGE, now.kv_cache_usage)
        except Exception:
            logger.exception("the engine's load could not be reported")
        await asyncio.sleep(PERIOD_S)
