"""Preprocessor: a clip's bytes into a Clip, on CPUs."""

from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.watched_decode import WatchedDecode
from serve_app.media.pool import DecodeCounts, DecodePool
from serve_app.settings import MediaSettings, TraceSettings
from serve_app.trace_start import open_traces
from serve_app.types import Clip, ClipSource, DecodeOptions


class Preprocessor:
    """One pool of decode workers per replica."""

    def __init__(self, settings: MediaSettings, image_size: int, traces: TraceSettings) -> None:
        self._pool = DecodePool(settings, image_size)
        self._traces = open_traces(traces, "Preprocessor")
        self._watched = WatchedDecode(self._pool, RayMeter(), self._traces)

    async def decode(
        self, source: ClipSource, options: DecodeOptions, traceparent: str | None = None
    ) -> Clip:
        """Raises a ClipError. Cancelling the request kills its decode."""
        return await self._watched.decode(source, options, traceparent)

    async def decode_counts(self) -> DecodeCounts:
        """See DecodePool.counts, for this replica. Only tests call it; the metric is clips_total."""
        return self._pool.counts()

    def __del__(self) -> None:
        # Serve calls this when the replica goes.
        if hasattr(self, "_pool"):
            self._pool.close()
        if hasattr(self, "_traces"):
            self._traces.close()
