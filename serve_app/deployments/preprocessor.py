"""Preprocessor: a clip's bytes into a Clip, on CPUs."""

from serve_app.media.pool import DecodeCounts, DecodePool
from serve_app.settings import MediaSettings
from serve_app.types import Clip, ClipSource, DecodeOptions


class Preprocessor:
    """One pool of decode workers per replica."""

    def __init__(self, settings: MediaSettings, image_size: int) -> None:
        self._pool = DecodePool(settings, image_size)

    async def decode(self, source: ClipSource, options: DecodeOptions) -> Clip:
        """Raises a ClipError. Cancelling the request kills its decode."""
        return await self._pool.decode(source, options)

    async def decode_counts(self) -> DecodeCounts:
        """See DecodePool.counts; of this replica."""
        return self._pool.counts()

    def __del__(self) -> None:
        # Serve calls this when the replica goes.
        if hasattr(self, "_pool"):
            self._pool.close()
