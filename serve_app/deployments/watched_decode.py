"""A decode pool whose clips are counted, timed and traced."""

import time

from serve_app.errors import ServeAppError
from serve_app.media.pool import DecodePool
from serve_app.metrics import CLIP_FAILURES, CLIP_WAIT_SECONDS, CLIPS, Meter
from serve_app.traces import Traces
from serve_app.types import Clip, ClipSource, DecodeOptions


class WatchedDecode:
    """DecodePool.decode, as operators see it."""

    def __init__(self, pool: DecodePool, meter: Meter, traces: Traces) -> None:
        self._pool, self._meter, self._traces = pool, meter, traces
        self._told = pool.counts()

    async def decode(
        self, source: ClipSource, options: DecodeOptions, traceparent: str | None
    ) -> Clip:
        """Raises what DecodePool.decode raises."""
        started = time.perf_counter()
        with self._traces.span("preprocess", traceparent) as span:
            try:
                clip = await self._pool.decode(source, options)
            except ServeAppError as error:
                self._meter.record(CLIP_FAILURES, 1, code=error.code)
                raise
            elapsed_s = time.perf_counter() - started
            wait_s = max(0.0, elapsed_s - clip.decode_ms / 1e3)
            span.add_parts(_part_ends_s(source, clip.read_ms / 1e3, wait_s, elapsed_s))
        self._meter.record(CLIP_WAIT_SECONDS, wait_s)
        self._tell_counts()
        return clip

    def _tell_counts(self) -> None:
        now, told = self._pool.counts(), self._told
        self._told = now
        counted = {
            "decoded": now.num_decoded - told.num_decoded,
            "hit": now.num_hits - told.num_hits,
        }
        for result, num_clips in counted.items():
            if num_clips:
                self._meter.record(CLIPS, num_clips, result=result)


def _part_ends_s(
    source: ClipSource, read_s: float, wait_s: float, elapsed_s: float
) -> dict[str, float]:
    """A URL is read before a worker is waited for, anything else by the worker."""
    if source.url is not None:
        return {"read": read_s, "wait": read_s + wait_s, "decode": elapsed_s}
    return {"wait": wait_s, "read": wait_s + read_s, "decode": elapsed_s}
