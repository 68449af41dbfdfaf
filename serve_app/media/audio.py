"""Turns audio packets into 16 kHz mono samples, skipping what is damaged."""

from typing import ClassVar, Literal

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

MIN_SAMPLES = 400  # 25 ms; HuBERT's convolutions need as many
BATCH_SAMPLES = (
    16_384  # resampled together, with the same result in half the time of frame by frame
)


class AudioCollector:
    """Decodes and resamples packet by packet, and measures the real duration."""

    rate: ClassVar[int] = SAMPLE_RATE
    layout: ClassVar[Literal["mono", "stereo"]] = "mono"

    def __init__(self, stream: AudioStream, settings: MediaSettings) -> None:
        self._stream, self._settings = stream, settings
        self._resampler, self._batch = self._new_resampler(), AudioFifo()
        self._kind: tuple[str, str, int] | None = None
        self._chunks: list[npt.NDArray[np.int16]] = []
        self._num_collected = 0  # at `rate`, per channel
        self._num_samples = 0  # of the waveform
        self.num_damaged = 0

    @property
    def duration_s(self) -> float:
        return self._num_collected / self.rate

    def feed(self, packet: AudioPacket | None) -> None:
        """Decode one packet. None means the end and drains the decoder."""
        frames = decode_packet(self._stream.codec_context, packet)
        self.num_damaged += frames is None
        for frame in frames or ():
            self._add(frame)
        check_duration(self.duration_s, self._settings)

    def finish(self) -> npt.NDArray[np.int16] | None:
        """(num_samples,) mono at SAMPLE_RATE; None where it is too short for the model."""
        self.feed(None)
        self._flush()
        waveform = self._waveform(np.concatenate(self._chunks)) if self._num_collected else None
        self._num_samples = 0 if waveform is None else len(waveform)
        return waveform if self._num_samples >= MIN_SAMPLES else None

    def notes(self) -> list[str]:
        """Notes about worked-around damage. Call it after `finish`."""
        notes = []
        if self.num_damaged:
            notes.append(f"damaged packets of sound skipped: {self.num_damaged}")
        if 0 < self._num_samples < MIN_SAMPLES:
            notes.append(
                f"{self._num_samples} samples of sound were dropped; {MIN_SAMPLES} are needed"
            )
        return notes

    def _waveform(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """The waveform made of the collected samples, which are in `layout` at `rate`, interleaved."""
        return samples

    def _add(self, frame: AudioFrame) -> None:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if (
            kind != self._kind
        ):  # AudioFifo does not notice a change of channels and would read past the end
            self._flush()
            self._resampler, self._batch, self._kind = self._new_resampler(), AudioFifo(), kind
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
                count = resampled.samples * resampled.layout.nb_channels
                samples = np.frombuffer(memoryview(resampled.planes[0]), np.int16, count)
                self._chunks.append(samples)
                self._num_collected += resampled.samples

    def _new_resampler(self) -> AudioResampler:
        # s16, not float: libav's float down-mix to mono is not normalised.
        return AudioResampler(format="s16", layout=self.layout, rate=self.rate)
