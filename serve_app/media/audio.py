"""Turns audio packets into 16 kHz mono samples, skipping what is damaged."""

import numpy as np
import numpy.typing as npt
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from serve_app.media.container import check_duration
from serve_app.media.packets import AudioPacket, decode_packet
from serve_app.settings import MediaSettings
from serve_app.types import SAMPLE_RATE

MIN_SAMPLES = 400  # HuBERT's convolutions see nothing in less: 25 ms
BATCH_SAMPLES = 16_384  # resampled at once: half the time of going frame by frame, same samples


class AudioCollector:
    """Decodes and resamples packet by packet, counting what really comes out."""

    def __init__(self, stream: AudioStream, settings: MediaSettings) -> None:
        self._stream, self._settings = stream, settings
        self._resampler, self._batch = _resampler(), AudioFifo()
        self._kind: tuple[str, str, int] | None = None
        self._chunks: list[npt.NDArray[np.int16]] = []
        self.num_samples = 0
        self.num_damaged = 0

    @property
    def duration_s(self) -> float:
        return self.num_samples / SAMPLE_RATE

    def feed(self, packet: AudioPacket | None) -> None:
        """None is the end: it drains the decoder."""
        frames = decode_packet(self._stream.codec_context, packet)
        self.num_damaged += frames is None
        for frame in frames or ():
            self._add(frame)
        check_duration(self.duration_s, self._settings)

    def finish(self) -> npt.NDArray[np.int16] | None:
        """The whole waveform; None where it is too short for the model to hear."""
        self.feed(None)
        self._flush()
        if self.num_samples < MIN_SAMPLES:
            return None
        return np.concatenate(self._chunks)

    def notes(self) -> list[str]:
        """What was worked around, once finished."""
        notes = []
        if self.num_damaged:
            notes.append(f"damaged packets of sound skipped: {self.num_damaged}")
        if 0 < self.num_samples < MIN_SAMPLES:
            notes.append(
                f"{self.num_samples} samples of sound were dropped; {MIN_SAMPLES} are needed"
            )
        return notes

    def _add(self, frame: AudioFrame) -> None:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:  # the queue itself would not notice a channel less, and read past it
            self._flush()
            self._resampler, self._batch, self._kind = _resampler(), AudioFifo(), kind
        frame.pts = None  # gaps in the timestamps close up, as in the original's decoder
        self._batch.write(frame)
        if self._batch.samples >= BATCH_SAMPLES:
            self._resample(self._batch.read())

    def _flush(self) -> None:
        rest = self._batch.read()
        if rest is not None:
            self._resample(rest)
        self._resample(None)

    def _resample(self, frame: AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            if resampled is not None:  # flushing sound that needs no resampling yields None
                samples = np.frombuffer(
                    memoryview(resampled.planes[0]), np.int16, resampled.samples
                )
                self._chunks.append(samples)
                self.num_samples += resampled.samples


def _resampler() -> AudioResampler:
    # s16, not float: libav's float down-mix to mono is not normalised.
    return AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
