"""The engine's load, every other second: Ray forgets a gauge that is not set; an idle engine sets none."""

import asyncio
import logging
from collections.abc import Callable

from serve_app.metrics import ENGINE_REQUESTS, KV_CACHE_USAGE, Meter
from serve_app.types import EngineLoad

logger = logging.getLogger(__name__)

PERIOD_S = 2.0


async def report_engine(load: Callable[[], EngineLoad], meter: Meter) -> None:
    """Until it is cancelled, whatever goes wrong once: alerts rest on it."""
    while True:
        try:
            now = load()
            meter.record(ENGINE_REQUESTS, now.num_running, state="running")
            meter.record(ENGINE_REQUESTS, now.num_waiting, state="waiting")
            meter.record(KV_CACHE_USAGE, now.kv_cache_usage)
        except Exception:
            logger.exception("the engine's load could not be reported")
        await asyncio.sleep(PERIOD_S)
