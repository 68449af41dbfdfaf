"""LRU cache of decoded clips, limited in bytes."""

from collections import OrderedDict

from serve_app.media.decode import content_sha256
from serve_app.types import Clip, DecodeOptions, Features

Variant = tuple[DecodeOptions, str]  # decode options, and the digest of the ready features

OBJECT_BYTES = 2048  # size of a clip besides its arrays


class ClipCache:
    """Holds at most `max_bytes`; with 0 it holds nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._clips: OrderedDict[tuple[str, Variant], Clip] = OrderedDict()

    def held(self, options: DecodeOptions, features: Features) -> dict[str, Clip]:
        """The cached clips with these options and features, by the digest of their source bytes."""
        wanted = _variant(options, features)
        return {
            sha256: clip for (sha256, variant), clip in self._clips.items() if variant == wanted
        }

    def keep(self, clip: Clip, options: DecodeOptions) -> None:
        """Put a clip in as the most recently used one; evict others until all fit."""
        key = clip.sha256, _variant(options, clip.features)
        if key in self._clips:
            self._num_bytes -= num_bytes(self._clips.pop(key))
        self._clips[key] = clip
        self._num_bytes += num_bytes(clip)
        while self._num_bytes > self._max_bytes:
            _, oldest = self._clips.popitem(last=False)
            self._num_bytes -= num_bytes(oldest)


def num_bytes(clip: Clip) -> int:
    """Approximate memory of a clip."""
    arrays = [clip.frame, clip.waveform, *clip.features.values()]
    return OBJECT_BYTES + sum(array.nbytes for array in arrays if array is not None)


def _variant(options: DecodeOptions, features: Features) -> Variant:
    return options, content_sha256(None, None, features)
