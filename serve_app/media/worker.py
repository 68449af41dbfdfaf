"""The tasks that run in decode processes and in the voice process."""

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from serve_app.media.decode import decode_clip, with_features
from serve_app.media.preprocessed import is_preprocessed, read_preprocessed
from serve_app.media.process_limits import allow_cpu, limit_process
from serve_app.media.source import read_source
from serve_app.media.voice import voice_statistics, warm_up
from serve_app.settings import MediaSettings
from serve_app.timings import ms_since
from serve_app.types import Clip, ClipSource, DecodeOptions, Features, VoiceStatistics


def start_decode_worker(settings: MediaSettings) -> None:
    limit_process(settings.worker_memory_bytes)


def start_voice_worker(settings: MediaSettings) -> None:
    warm_up()
    limit_process(settings.worker_memory_bytes)


@dataclass(frozen=True, slots=True)
class HeldClip:
    """Returned instead of a clip that the caller already holds."""

    sha256: str  # of the bytes that were read
    read_ms: float
    decode_ms: float  # of reading and hashing


def decode_source(
    source: ClipSource,
    options: DecodeOptions,
    settings: MediaSettings,
    image_size: int,
    held: Collection[str] = (),
) -> Clip | HeldClip:
    """Reads the source and, unless its digest is in `held`, decodes it, within the CPU time of one clip.

    The result has the times that this took. Raises one of errors.py's classes, or MemoryError.
    """
    started = time.perf_counter()
    allow_cpu(settings.decode_timeout_s)
    data = read_source(source, settings)
    read_ms = ms_since(started)
    if held and (sha256 := hashlib.sha256(data).hexdigest()) in held:
        return HeldClip(sha256, read_ms, ms_since(started))
    clip = decode_data(data, source.features, options, settings, image_size)
    return replace(clip, read_ms=read_ms, decode_ms=ms_since(started))


def decode_data(
    data: bytes,
    features: Features,
    options: DecodeOptions,
    settings: MediaSettings,
    image_size: int,
) -> Clip:
    """Decodes a clip, or reads a preprocessed one, and adds its features.

    Raises one of errors.py's classes, or MemoryError.
    """
    if is_preprocessed(data, settings):
        clip = read_preprocessed(data, settings, image_size)
    else:
        clip = decode_clip(data, options, settings, image_size)
    return with_features(clip, features) if features else clip


def describe_voice(waveform: npt.NDArray[np.int16], settings: MediaSettings) -> VoiceStatistics:
    allow_cpu(settings.voice_timeout_s)
    return voice_statistics(waveform)


def ready() -> None:
    """Returns when the worker is up."""
