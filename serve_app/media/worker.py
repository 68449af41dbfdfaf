"""What runs inside a decode process, and inside the one for the voice."""

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from serve_app.media.decode import decode_clip
from serve_app.media.limits import allow_cpu, limit_process
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
    """Reads and decodes; the time it took is in the clip."""
    started = time.perf_counter()
    allow_cpu(settings.decode_timeout_s)
    clip = decode_clip(read_source(source, settings), options, settings, image_size)
    return replace(clip, decode_ms=(time.perf_counter() - started) * 1000)


def describe_voice(waveform: npt.NDArray[np.int16], settings: MediaSettings) -> VoiceStatistics:
    allow_cpu(settings.voice_timeout_s)
    return voice_statistics(waveform)


def ready() -> None:
    """Returns when the worker is up."""
