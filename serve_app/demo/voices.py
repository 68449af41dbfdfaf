"""Synthesises voices: harmonics of a pitch, shaped by vowels, in syllables, following a style of speaking."""

from dataclasses import astuple, dataclass, fields

import numpy as np
import numpy.typing as npt

Sound = npt.NDArray[np.float32]  # (num_samples,) in [-1, 1]
Floats = npt.NDArray[np.float64]

CONTROL_HZ = 200  # how often pitch, loudness and vowels change
MAX_HARMONIC_HZ = 4500
VOWELS_HZ = ((750, 1250), (500, 1800), (320, 2250), (480, 900), (340, 780), (550, 1500))


@dataclass(frozen=True, slots=True)
class Style:
    """How something is said."""

    rate: float  # syllables per second
    pitch: float  # relative to the speaker's own
    liveliness: float  # spread of the syllables' pitches, in octaves
    glide: float  # change of the pitch in octaves per phrase
    tilt: float  # how fast harmonics get weaker, as an exponent of their number: small is bright and loud
    roughness: float  # depth of the 70 Hz flutter of a pressed voice, 0..1
    tremor: float  # depth of the 8 Hz wobble of pitch and loudness, 0..1
    breath: float  # noise in the voice, relative to the harmonics


STYLES = {
    "lively": Style(4.8, 1.35, 0.28, 0.10, 0.9, 0.0, 0.0, 0.04),
    "slow": Style(1.9, 0.85, 0.05, -0.35, 1.7, 0.0, 0.0, 0.15),
    "even": Style(3.4, 1.0, 0.04, 0.0, 1.3, 0.0, 0.0, 0.04),
    "harsh": Style(4.6, 1.15, 0.12, -0.1, 0.4, 0.8, 0.0, 0.08),
    "rising": Style(2.8, 1.15, 0.06, 0.95, 1.0, 0.0, 0.0, 0.06),
    "trembling": Style(3.4, 1.12, 0.07, 0.0, 1.3, 0.0, 0.85, 0.12),
}
# The full range of each field: the scale on which the voice tower learns them.
STYLE_RANGES = np.array([5.0, 1.5, 0.3, 1.0, 2.0, 1.0, 1.0, 0.2])
NUM_STYLE_FIELDS = len(fields(Style))


def draw_style(voice: str, random: np.random.Generator) -> Style:
    """One person's version of a voice: every field within 15 % of the table's."""
    values = np.array(astuple(STYLES[voice])) * random.uniform(0.85, 1.15, NUM_STYLE_FIELDS)
    return Style(*values.tolist())


def style_targets(style: Style) -> Floats:
    """(8,) the style's fields, scaled to about 1 at most."""
    targets: Floats = np.array(astuple(style)) / STYLE_RANGES
    return targets


def speak(
    style: Style, seconds: float, random: np.random.Generator, sample_rate: int = 16_000
) -> Sound:
    """(seconds * sample_rate,) samples of a random speaker who utters random syllables."""
    own_pitch_hz = np.exp(random.uniform(np.log(95), np.log(230)))
    tract = random.uniform(0.9, 1.2)  # formants of a child or woman lie higher
    time_s = np.arange(round(seconds * CONTROL_HZ) + 2) / CONTROL_HZ
    position, syllable = _syllables(style, time_s, random)

    phrase_s = random.uniform(1.1, 1.5)
    glided = (time_s + random.uniform(0, phrase_s)) % phrase_s / phrase_s - 0.5
    melody = random.normal(0, 1, syllable.max() + 1)[syllable]
    wobble = np.sin(2 * np.pi * random.uniform(7, 9) * time_s + random.uniform(0, 6))
    octaves = style.glide * glided + style.liveliness * melody + 0.12 * style.tremor * wobble
    pitch_hz = (own_pitch_hz * style.pitch * 2**octaves).clip(60, 600)

    loudness = np.sin(np.pi * position.clip(0, 1)) ** (0.35 if style.roughness > 0.4 else 0.7)
    loudness *= 1 - 0.45 * style.tremor * (1 + wobble) / 2
    loudness *= random.uniform(0.7, 1.0, syllable.max() + 1)[syllable]
    vowels = np.array(VOWELS_HZ)[random.integers(0, len(VOWELS_HZ), syllable.max() + 1)[syllable]]
    return _synthesise(style, pitch_hz, loudness, vowels * tract, seconds, random, sample_rate)


def _syllables(
    style: Style, time_s: Floats, random: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """For every control point: its position in its syllable (above 1: the gap after it), and the syllable."""
    lengths_s = random.uniform(0.8, 1.25, int(time_s[-1] * style.rate * 1.4) + 3) / style.rate
    starts_s = np.cumsum(lengths_s) - lengths_s[0] * random.uniform(0.2, 1)
    syllable = np.searchsorted(starts_s, time_s).clip(0, len(lengths_s) - 1)
    voiced = random.uniform(0.75, 0.95)  # share of a syllable that sounds
    since_s = time_s - (starts_s[syllable] - lengths_s[syllable])
    return since_s / lengths_s[syllable] / voiced, syllable


def _synthesise(
    style: Style,
    pitch_hz: Floats,
    loudness: Floats,
    formants_hz: Floats,
    seconds: float,
    random: np.random.Generator,
    sample_rate: int,
) -> Sound:
    """Adds up the harmonics. Each sin(n x) is computed from the two before it, without calling sin again."""
    num_samples = round(seconds * sample_rate)
    at = np.arange(num_samples) / sample_rate * CONTROL_HZ  # in control points
    below, share = at.astype(int), (at % 1).astype(np.float32)

    def to_samples(control: Floats) -> Sound:
        values = control.astype(np.float32)
        between: Sound = values[below] + share * (values[below + 1] - values[below])
        return between

    phase = 2 * np.pi * np.cumsum(to_samples(pitch_hz) / sample_rate, dtype=np.float64)
    sine, twice_cosine = np.sin(phase).astype(np.float32), (2 * np.cos(phase)).astype(np.float32)
    before, sound = np.zeros_like(sine), np.zeros_like(sine)
    for number in range(1, int(MAX_HARMONIC_HZ / np.median(pitch_hz)) + 1):
        away = (number * pitch_hz[:, None] - formants_hz) / (90 + 0.08 * formants_hz)
        weight = (0.06 + (1 / (1 + away**2)).sum(axis=1)) * number**-style.tilt
        sound += to_samples(weight) * sine
        before, sine = sine, twice_cosine * sine - before
    flutter_hz = random.uniform(55, 85)
    flutter = np.sin(2 * np.pi * flutter_hz * at / CONTROL_HZ + 2 * np.sin(phase / 7))
    sound *= (1 - 0.75 * style.roughness * (1 + flutter) / 2).astype(np.float32)
    level = float(np.sqrt(np.mean(sound**2)))
    sound += random.normal(0, style.breath * level, num_samples).astype(np.float32)
    sound *= to_samples(loudness)
    peak = random.uniform(0.2, 0.9)
    scaled: Sound = (peak * sound / (np.abs(sound).max() + 1e-6)).astype(np.float32)
    return scaled


def add_noise(sound: Sound, snr_db: float, random: np.random.Generator) -> Sound:
    """Adds white noise at this signal-to-noise ratio of mean powers; scaled down if the sum would clip."""
    level = float(np.sqrt(np.mean(sound**2))) * 10 ** (-snr_db / 20)
    noisy = sound + random.normal(0, level, len(sound)).astype(np.float32)
    fitting: Sound = (noisy / max(1.0, float(np.abs(noisy).max()))).astype(np.float32)
    return fitting
