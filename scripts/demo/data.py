"""Generates the training data: many faces and voices as arrays, the same for the same seed."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve_app.demo.faces import (
    JAW_OPEN,
    TALKING_JAW,
    Floats,
    draw_action_units,
    draw_background,
    draw_face,
    draw_person,
    landmarks,
)
from serve_app.demo.labels import FACES, NO_FACE, NO_VOICE, VOICES
from serve_app.demo.voices import draw_style, speak, style_targets
from serve_app.types import SAMPLE_RATE

FACE_NAMES = (*FACES, NO_FACE)
VOICE_NAMES = (*VOICES, NO_VOICE)
NO_FACE_EVERY = 16  # one picture in 16 shows no face
VOICE_SECONDS = 3.0
FACE_STREAM, VOICE_STREAM = 1, 2  # give faces and voices different random numbers for one seed


@dataclass(frozen=True, slots=True)
class FaceSet:
    """N pictures and what is known about them. Coordinates are in picture widths and heights, 0..1."""

    frames: npt.NDArray[np.uint8]  # (N, S, S, 3) RGB
    faces: npt.NDArray[np.int64]  # (N,) index into FACE_NAMES
    units: npt.NDArray[np.float32]  # (N, 13) action units
    landmarks: npt.NDArray[np.float32]  # (N, 15, 2)
    poses: npt.NDArray[np.float32]  # (N, 2, 3) face coordinates -> picture


@dataclass(frozen=True, slots=True)
class VoiceSet:
    """N voices of VOICE_SECONDS."""

    waveforms: npt.NDArray[np.int16]  # (N, num_samples)
    voices: npt.NDArray[np.int64]  # (N,) index into VOICE_NAMES; none of them NO_VOICE
    styles: npt.NDArray[np.float32]  # (N, 8) as style_targets gives them


def make_faces(count: int, seed: int, image_size: int) -> FaceSet:
    """Draws `count` faces; takes 3 ms each."""
    made = [_make_face(seed, image_size, index) for index in range(count)]
    frames, faces, units, points, poses = zip(*made, strict=True)
    return FaceSet(
        frames=np.stack(frames),
        faces=np.array(faces),
        units=np.stack(units).astype(np.float32),
        landmarks=np.stack(points).astype(np.float32),
        poses=np.stack(poses).astype(np.float32),
    )


def _make_face(
    seed: int, image_size: int, index: int
) -> tuple[npt.NDArray[np.uint8], int, Floats, Floats, Floats]:
    random = np.random.default_rng([seed, FACE_STREAM, index])
    person = draw_person(random)
    to_unit = 1 / np.array([person.width, person.height])
    if index % NO_FACE_EVERY == 0:
        frame = shrink(degrade(draw_background(person), random), image_size)
        return frame, len(FACES), np.zeros(13), np.full((15, 2), -9.0), np.eye(2, 3)
    kind = int(random.integers(len(FACES)))
    units = draw_action_units(FACE_NAMES[kind], random)
    units[JAW_OPEN] += random.uniform(0, TALKING_JAW) * random.integers(0, 2)
    frame = shrink(degrade(draw_face(person, units), random), image_size)
    pose = person.pose * to_unit[:, None]
    points = landmarks(units) @ pose[:, :2].T + pose[:, 2]
    return frame, kind, units, points, pose


def degrade(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Changes the light and adds sensor noise and compression, like cameras and codecs do."""
    pixels = np.asarray(image, dtype=np.float32)
    pixels = (pixels - 128) * random.uniform(0.75, 1.15) + 128 + random.uniform(-25, 25)
    if random.random() < 0.5:
        pixels += random.normal(0, random.uniform(1, 10), pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if random.random() < 0.6:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(random.integers(20, 90)))
        image = Image.open(buffer)
    return image


def shrink(image: Image.Image, image_size: int) -> npt.NDArray[np.uint8]:
    """Resizes like serve_app.media.picture: bicubic, without keeping the aspect ratio."""
    return np.asarray(image.resize((image_size, image_size), Image.Resampling.BICUBIC))


def make_voices(count: int, seed: int) -> VoiceSet:
    """Synthesises `count` voices; takes 12 ms each."""
    made = [_make_voice(seed, index) for index in range(count)]
    waveforms, voices, styles = zip(*made, strict=True)
    return VoiceSet(np.stack(waveforms), np.array(voices), np.stack(styles).astype(np.float32))


def _make_voice(seed: int, index: int) -> tuple[npt.NDArray[np.int16], int, Floats]:
    random = np.random.default_rng([seed, VOICE_STREAM, index])
    kind = int(random.integers(len(VOICES)))
    style = draw_style(VOICE_NAMES[kind], random)
    sound = speak(style, VOICE_SECONDS, random, SAMPLE_RATE)
    return (sound * 32767).astype(np.int16), kind, style_targets(style)
