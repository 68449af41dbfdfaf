"""Clips for tests and measurements: a plain talking face and a voice-like tone, always the same."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from serve_app.demo.movie import FRAMES_PER_S, SAMPLES_PER_S, Pixels, Sound

WIDTH, HEIGHT = 320, 240
SYLLABLES_PER_S = 3.0


def face_frames(seed: int, seconds: float) -> Iterator[Pixels]:
    for index in range(round(seconds * FRAMES_PER_S)):
        yield draw_face(seed, loudness(np.array(index / FRAMES_PER_S)).item())


def draw_face(seed: int, mouth_open: float) -> Pixels:
    """Draws a face. `mouth_open` is 0 for a line and 1 for wide open; the seed chooses the colours."""
    random = np.random.default_rng(seed)
    wall = tuple(random.integers(40, 120, 3).tolist())
    skin = tuple((random.integers(150, 240) * np.array([1.0, 0.8, 0.65])).astype(int).tolist())
    image = Image.new("RGB", (WIDTH, HEIGHT), wall)
    draw = ImageDraw.Draw(image)
    draw.ellipse((95, 25, 225, 215), fill=skin)
    for x in (130, 190):
        draw.ellipse((x - 13, 85, x + 13, 105), fill="white")
        draw.ellipse((x - 6, 88, x + 6, 102), fill=(40, 30, 20))
        draw.arc((x - 18, 68, x + 18, 96), 200, 340, fill=(60, 40, 30), width=3)
    draw.line((160, 105, 154, 140, 163, 142), fill=(120, 80, 60), width=2)
    draw.ellipse((135, 168 - 12 * mouth_open, 185, 172 + 14 * mouth_open), fill=(130, 30, 40))
    return np.asarray(image)


def voice(seed: int, seconds: float) -> Sound:
    """Harmonics of a gliding pitch, weighted like a vowel, in syllables."""
    time_s = np.arange(round(seconds * SAMPLES_PER_S)) / SAMPLES_PER_S
    pitch_hz = np.random.default_rng(seed).uniform(110, 230)
    phase = 2 * np.pi * (pitch_hz * time_s + 3 * np.sin(2 * np.pi * 0.7 * time_s))
    harmonics = np.arange(1, 16)
    distances_hz = harmonics * pitch_hz - np.array([[600], [1200]])  # to the formants
    weights = 0.1 + np.exp(-((distances_hz / 250) ** 2)).sum(axis=0)
    sound = weights @ np.sin(np.outer(harmonics, phase))
    shaped: Sound = (0.5 * loudness(time_s) * sound / np.abs(sound).max()).astype(np.float32)
    return shaped


def loudness(time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Loudness, 0 to 1, silent between syllables."""
    wave: npt.NDArray[np.float64] = np.sin(2 * np.pi * SYLLABLES_PER_S * time_s)
    return wave.clip(min=0.0)
