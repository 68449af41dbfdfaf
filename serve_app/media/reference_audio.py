"""The waveform that the original's library makes of a clip: samples picked from 44.1 kHz without a filter.

The original extracts sound with moviepy 1.0.3: `VideoFileClip(path).audio.write_audiofile(...,
fps=16000, ffmpeg_params=["-ac", "1"])`. For each sample wanted, moviepy takes the nearest one of
ffmpeg's 44.1 kHz stereo, through a buffer that it refills off by one and, where the sound ends before
the container, addresses from the wrong end. All of that is reproduced here, because the released demo's
model gets its sound so.

The code in moviepy 1.0.3: FFMPEG_AudioReader in audio/io/readers.py, AudioClip.iter_chunks
and to_soundarray in audio/AudioClip.py, ffmpeg_parse_infos in video/io/ffmpeg_reader.py.
"""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer

from serve_app.media.audio import AudioCollector
from serve_app.media.container import MICROSECONDS, check_duration
from serve_app.media.movie_header import movie_duration_us
from serve_app.settings import MediaSettings
from serve_app.types import SAMPLE_RATE

SOURCE_RATE = 44_100  # Hz; moviepy lets ffmpeg resample everything to this rate
CHUNK_SAMPLES = 2000  # at most, at SAMPLE_RATE: write_audiofile's buffersize
MAX_BUFFER_FRAMES = 200_000  # AudioFileClip's buffersize: 4.5 s
PEAK = 32_440  # moviepy clips at 0.99 of full scale

CENTISECOND = MICROSECONDS // 100
MINUTE = 6000  # centiseconds

Pcm = npt.NDArray[np.int16]
"""(num_frames, 2) at SOURCE_RATE."""


class ReferenceCollector(AudioCollector):
    """Collects the sound as ffmpeg decodes it for moviepy, and picks samples from it."""

    rate: ClassVar[int] = SOURCE_RATE
    layout: ClassVar[Literal["mono", "stereo"]] = "stereo"

    def __init__(
        self, stream: AudioStream, settings: MediaSettings, duration_us: int | None
    ) -> None:
        """`duration_us` is that of the whole clip, see `stated_duration_us`. Raises ClipOverLimitError."""
        super().__init__(stream, settings)
        if duration_us is not None:
            check_duration(duration_us / MICROSECONDS, settings)
        self._duration_us = duration_us
        self._notes: list[str] = []

    def notes(self) -> list[str]:
        return [*super().notes(), *self._notes]

    def _waveform(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        pcm, duration_us = samples.reshape(-1, 2), self._duration_us
        if duration_us is None:
            duration_us = round(self.duration_s * MICROSECONDS)
            self._notes.append("the original refuses this clip: its header states no duration")
        duration_s = printed_duration_s(duration_us)
        if 2 * len(pcm) <= _buffer_size(duration_s) // 2:
            self._notes.append("the original fails on this clip: its sound ends too early")
        return reference_waveform(pcm, duration_s)


def stated_duration_us(container: InputContainer, data: bytes) -> int | None:
    """The clip's duration as `ffmpeg -i` would determine it; None where it would print N/A.

    The original's ffmpeg uses the header of an mp4 even where the tracks are shorter.
    """
    duration_us = movie_duration_us(data) or container.duration
    return duration_us if duration_us and duration_us > 0 else None


def printed_duration_s(duration_us: int) -> float:
    """The duration that moviepy reads from the line `Duration: 00:00:04.76` of `ffmpeg -i`.

    Summed in moviepy's order, because the last bit of the sum decides the number of samples.
    """
    minutes, centiseconds = divmod((duration_us + CENTISECOND // 2) // CENTISECOND, MINUTE)
    return centiseconds / 100 + 60.0 * minutes


def reference_waveform(pcm: Pcm, duration_s: float) -> npt.NDArray[np.int16]:
    """(num_samples,) mono at SAMPLE_RATE, with num_samples = int(SAMPLE_RATE * duration_s).

    Args:
        pcm: all of the clip's sound; at least one frame.
        duration_s: the container's duration, see `printed_duration_s`; may differ from the sound's.
    """
    num_samples = int(SAMPLE_RATE * duration_s)
    num_chunks = num_samples // CHUNK_SAMPLES + 1
    bounds = np.linspace(0, num_samples, num_chunks + 1, dtype=int)
    # One time in 160 lies halfway between two frames, so roundings must be moviepy's, in its order.
    times_s = (1.0 / SAMPLE_RATE) * np.arange(num_samples)
    wanted = np.round(SOURCE_RATE * times_s).astype(int)
    buffer = _Buffer(pcm, duration_s)
    picked = [buffer.pick(chunk) for chunk in np.split(wanted, bounds[1:-1]) if len(chunk)]
    return _mono(np.concatenate(picked)) if picked else np.empty(0, np.int16)


def _mono(frames: Pcm) -> npt.NDArray[np.int16]:
    left, right = np.clip(frames, -PEAK, PEAK).astype(np.int32).T
    mono: npt.NDArray[np.int16] = ((left + right + 1) >> 1).astype(
        np.int16
    )  # as libswresample halves
    return mono


def _buffer_size(duration_s: float) -> int:
    return min(int(SOURCE_RATE * duration_s) + 1, MAX_BUFFER_FRAMES)


class _Buffer:
    """moviepy's buffer: a part of the sound, `frames`, which moviepy assumes to begin at `start`."""

    def __init__(self, pcm: Pcm, duration_s: float) -> None:
        self._pcm = pcm
        self._size = _buffer_size(duration_s)
        self._start, self._position = 0, 0
        self._frames = self._read(self._size)

    def pick(self, wanted: npt.NDArray[np.int_]) -> Pcm:
        """The frames at the indices `wanted`, which are ascending and not negative."""
        if not self._holds(wanted[0]):
            self._refill(wanted[0])
        elif not self._holds(wanted[-1]):
            self._refill(wanted[-1])
        held, half = len(self._frames), self._size // 2
        indices = wanted - self._start
        if (
            held < half
        ):  # moviepy shifts them as if the buffer were filled from its end; negative ones wrap
            indices = indices - (half - held + 1)
        # Past the end moviepy repeats the last frame. It fails on indices before the beginning, which occur
        # where the sound would not fill a quarter of the buffer.
        return self._frames[np.clip(indices, -held, held - 1)]

    def _holds(self, frame: int) -> bool:
        return 0 <= frame - self._start < len(self._frames)

    def _refill(self, centre: int) -> None:
        start, end = max(0, centre - self._size // 2), self._start + self._size
        if start < end < start + self._size:
            num_kept = (
                end - start + 1
            )  # moviepy keeps one too many: all later frames are late by one
            read = self._read(self._size - num_kept)
            self._frames = np.concatenate([self._frames[-num_kept:], read])
        else:
            self._position = start
            self._frames = self._read(self._size)
        self._start = start

    def _read(self, num_frames: int) -> Pcm:
        """Read up to so many frames; fewer at the end. The position advances as moviepy's does."""
        read = self._pcm[self._position : self._position + num_frames]
        self._position += num_frames
        return read
