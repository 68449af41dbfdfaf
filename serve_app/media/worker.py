"""What runs inside a decode process, and inside the one for the voice."""

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from serve_app.media.decode import decode_clip, with_features
from serve_app.media.limits import allow_cpu, limit_process
from serve_app.media.preprocessed import is_preprocessed, read_preprocessed
from serve_app.media.source import read_source
from serve_app.media.voice import voice_statistics, warm_up
from serve_app.settings import MediaSettings
from serve_app.types import Clip, ClipSource, DecodeOptions, VoiceStatistics


def start_decode_worker(settings: MediaSettings) -> None:
    limit_process(settings.worker_memory_bytes)


def start_voice_worker(settings: MediaSettings) -> None:
    warm_up()
    limit_process(settings.worker_memory_bytes)


def decode_source(
    source: ClipSource, options: DecodeOptions, settings: MediaSettings, image_size: int
) -> Clip:
    """`read_clip` within the CPU time a clip may take; the time it took is in the clip."""
    started = time.perf_counter()
    allow_cpu(settings.decode_timeout_s)
    clip = read_clip(source, options, settings, image_size)
    return replace(clip, decode_ms=(time.perf_counter() - started) * 1000)


def read_clip(
    source: ClipSource, options: DecodeOptions, settings: MediaSettings, image_size: int
) -> Clip:
    """Decodes the source, or takes it as it was decoded beforehand, and adds its features.

    Raises one of errors.py's classes, or MemoryError.
    """
    data = read_source(source, settings)
    if is_preprocessed(data, settings):
        clip = read_preprocessed(data, settings, image_size)
    else:
        clip = decode_clip(data, options, settings, image_size)
    return with_features(clip, source.features) if source.features else clip


def describe_voice(waveform: npt.NDArray[np.int16], settings: MediaSettings) -> VoiceStatistics:
    allow_cpu(settings.voice_timeout_s)
    return voice_statistics(waveform)


def ready() -> None:
    """Returns when the worker is up."""
