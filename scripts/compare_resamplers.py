"""Compares resamplers to 16 kHz mono: their passband, aliasing, errors and time.

    python scripts/compare_resamplers.py [--rate 48000] [CLIPS_DIR]

Gains are in dB relative to the input tone. SNRs are measured below 7 kHz, against the sound with its spectrum
cut off at 8 kHz. Decoding is not timed. What a difference means for HuBERT or for the answer cannot be seen
here: that needs the released weights.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soxr
from lib.measuring import median_and_quartiles, times_ms
from lib.plain_clips import voice
from scipy import signal  # type: ignore[import-untyped]

from serve_app.demo.movie import SAMPLES_PER_S
from serve_app.media.audio import BATCH_SAMPLES
from serve_app.media.reference_audio import SOURCE_RATE, reference_waveform
from serve_app.types import SAMPLE_RATE

PASSED_HZ = (1000, 4000, 6000, 7000, 7500)
FOLDED_HZ = (8500, 9000, 10_000, 12_000, 15_000)
COMPARED_HZ = 7000  # above it resamplers roll off differently, and none of them is wrong
TONE_S, NOISE_S, TIMED_S = 2.0, 5.0, 10.0
EDGE_S = 0.25  # left out at both ends, where filters have no history
VOLUME = 0.25
HALF_STEP = 0.5 / 32768  # smaller values are silence in 16 bits
ROUNDS = 15

Sound = npt.NDArray[np.float32]  # (2, num_samples) in [-1, 1]
Waveform = npt.NDArray[np.int16]
Resampler = Callable[[Sound, int], Waveform]


def swr(layout: str = "mono", rate: int = SAMPLE_RATE, **options: str) -> Resampler:
    """A resampler like AudioCollector's: takes batches of decoded frames, returns s16."""

    def resample(sound: Sound, source_rate: int) -> Waveform:
        resampler = av.AudioResampler("s16", layout, rate, options=options)
        chunks = []
        for start in range(0, sound.shape[1], BATCH_SAMPLES):
            batch = np.ascontiguousarray(sound[:, start : start + BATCH_SAMPLES])
            frame = av.AudioFrame.from_ndarray(batch, "fltp", "stereo")
            frame.sample_rate = source_rate
            chunks += resampler.resample(frame)
        chunks += resampler.resample(None)
        return np.concatenate([chunk.to_ndarray()[0] for chunk in chunks])

    return resample


def soxr_hq(sound: Sound, source_rate: int) -> Waveform:
    """librosa's default resampler. The mix to mono s16 is swr's, so that only the resampling differs."""
    mono = swr(rate=source_rate)(sound, source_rate).astype(np.float32)
    resampled = soxr.resample(mono, source_rate, SAMPLE_RATE, quality="HQ")
    waveform: Waveform = np.clip(np.round(resampled), -32768, 32767).astype(np.int16)
    return waveform


def reference(sound: Sound, source_rate: int) -> Waveform:
    pcm = swr("stereo", SOURCE_RATE)(sound, source_rate).reshape(-1, 2)
    return reference_waveform(pcm, sound.shape[1] / source_rate)


RESAMPLERS: dict[str, Resampler] = {
    "swr (32 taps)": swr(),
    "swr, 64 taps": swr(filter_size="64"),
    "swr, 128 taps": swr(filter_size="128"),
    "soxr HQ": soxr_hq,
    "reference": reference,
}


def tone(pitch_hz: float, rate: int) -> Sound:
    time_s = np.arange(round(TONE_S * rate)) / rate
    return both(VOLUME * np.sin(2 * np.pi * pitch_hz * time_s))


def noise(rate: int) -> Sound:
    return both(np.random.default_rng(0).normal(0, VOLUME / 3, round(NOISE_S * rate)))


def vowels(rate: int) -> Sound:
    """The sample clip's voice, which has nothing above 4 kHz."""
    return both(signal.resample_poly(voice(0, NOISE_S), rate, SAMPLES_PER_S))


def both(channel: npt.NDArray[np.floating]) -> Sound:
    return np.stack([channel, channel]).astype(np.float32)


def gain_db(resample: Resampler, pitch_hz: float, rate: int) -> float:
    """Gain of a tone by its RMS, whatever its pitch is afterwards."""
    heard = inner(resample(tone(pitch_hz, rate), rate)) / 32768
    return 20 * float(np.log10(max(HALF_STEP, heard.std()) * 2**0.5 / VOLUME))


def snr_db(resample: Resampler, sound: Sound, rate: int) -> float:
    """SNR against the ideal sound, of the parts below COMPARED_HZ."""
    period = rate // math.gcd(rate, SAMPLE_RATE)  # otherwise the ideal would be stretched a little
    sound = np.pad(sound, ((0, 0), (0, -sound.shape[1] % period)))
    ideal = 32768 * signal.resample(sound.mean(axis=0), sound.shape[1] * SAMPLE_RATE // rate)
    heard = resample(sound, rate)[: len(ideal)]
    wanted, got = (inner(low(part)) for part in (ideal[: len(heard)], heard))
    return 10 * float(np.log10(np.square(wanted).sum() / np.square(got - wanted).sum()))


def low(waveform: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    spectrum = np.fft.rfft(waveform)
    spectrum[round(COMPARED_HZ / SAMPLE_RATE * len(waveform)) :] = 0
    return np.fft.irfft(spectrum, len(waveform))


def inner(waveform: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    edge = round(EDGE_S * SAMPLE_RATE)
    return waveform[edge:-edge].astype(np.float64)


def read_sound(path: Path) -> tuple[Sound, int]:
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    resampler = av.AudioResampler("fltp", "stereo", frames[0].sample_rate)
    planes = [chunk.to_ndarray() for frame in frames for chunk in resampler.resample(frame)]
    return np.concatenate(planes, axis=1), frames[0].sample_rate


def compare(rate: int) -> None:
    long_noise = np.tile(noise(rate), round(TIMED_S / NOISE_S))
    calls = {name: partial(resample, long_noise, rate) for name, resample in RESAMPLERS.items()}
    taken = times_ms(calls, ROUNDS)
    tones = PASSED_HZ + FOLDED_HZ
    print(f"from {rate} Hz stereo: gain in dB at so many Hz, SNR in dB, ms per 10 s (quartiles)")
    print(" " * 14 + "".join(f"{pitch:8}" for pitch in tones) + "   noise  vowels     ms")
    for name, resample in RESAMPLERS.items():
        row = "".join(f"{gain_db(resample, pitch, rate):8.2f}" for pitch in tones)
        snrs = [snr_db(resample, sound, rate) for sound in (noise(rate), vowels(rate))]
        cost = median_and_quartiles(taken[name])
        print(f"{name:14}{row} {snrs[0]:8.1f} {snrs[1]:7.1f} {cost:>20}")


def compare_clips(folder: Path) -> None:
    print(f"\n{'SNR in dB':34}" + "".join(f"{name:>15}" for name in RESAMPLERS))
    for path in sorted(folder.glob("*.mp4")):
        sound, rate = read_sound(path)
        row = "".join(f"{snr_db(resample, sound, rate):15.1f}" for resample in RESAMPLERS.values())
        print(f"{path.name:24}{rate:7} Hz{row}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="?", help="a folder of mp4 files")
    parser.add_argument("--rate", type=int, default=48_000, help="sample rate of the source, in Hz")
    args = parser.parse_args()
    compare(args.rate)
    if args.clips:
        compare_clips(args.clips)


if __name__ == "__main__":
    main()
