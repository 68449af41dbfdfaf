"""Writes clips of a talking face and a voice, encoded with real video and sound codecs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve_app.demo.faces import JAW_OPEN, TALKING_JAW, draw_action_units, draw_face, draw_person
from serve_app.demo.labels import FACE_OF, LABELS, VOICE_OF
from serve_app.demo.movie import FRAMES_PER_S, Pixels, write_clip
from serve_app.demo.voices import Sound, add_noise, draw_style, speak

NUM_JAW_POSITIONS = 5  # pictures drawn per clip; its frames are chosen from them by loudness
SAMPLE_RATES = (16_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a clip shows and sounds like; the seed decides the rest."""

    face: str
    voice: str
    seed: int
    snr_db: float | None = None  # with white noise in the sound; None: no noise

    @property
    def name(self) -> str:
        noise = "" if self.snr_db is None else f"-{self.snr_db:g}dB"
        return f"{self.face}-{self.voice}-{self.seed}{noise}.mp4"


def label_scenes(count: int, seed: int, snr_db: float | None = None) -> list[Scene]:
    """`count` scenes of the nine labels in turn, each label with its own face and voice."""
    labels = [LABELS[index % len(LABELS)] for index in range(count)]
    return [
        Scene(FACE_OF[label], VOICE_OF[label], seed + index, snr_db)
        for index, label in enumerate(labels)
    ]


def write_scene(scene: Scene, folder: Path) -> Path:
    """Writes an mp4 of 1.5 to 4 s: H.264 or MPEG-4 of varying quality, AAC at varying sample rates."""
    random = np.random.default_rng([scene.seed, 7])
    seconds = random.uniform(1.5, 4.0)
    sample_rate = int(random.choice(SAMPLE_RATES))
    sound = speak(draw_style(scene.voice, random), seconds, random, sample_rate)
    frames = talking_frames(scene.face, sound, sample_rate, random)
    if scene.snr_db is not None:
        sound = add_noise(sound, scene.snr_db, random)
    h264 = random.random() < 0.8
    quality = str(random.integers(18, 33)) if h264 else str(random.integers(2, 9))
    return write_clip(
        folder / scene.name,
        frames,
        [sound],
        video_codec="libx264" if h264 else "mpeg4",
        video_options={"crf": quality, "preset": "veryfast"} if h264 else {"qmin": quality},
        sample_rate=sample_rate,
        layout="mono" if random.random() < 0.5 else "stereo",
    )


def talking_frames(
    face: str, sound: Sound, sample_rate: int, random: np.random.Generator
) -> list[Pixels]:
    """One picture per video frame; the jaw follows the loudness."""
    person, units = draw_person(random), draw_action_units(face, random)
    pictures = []
    for opening in np.linspace(0, TALKING_JAW, NUM_JAW_POSITIONS):
        talking = units.copy()
        talking[JAW_OPEN] += opening
        pictures.append(np.asarray(draw_face(person, talking)))
    samples_per_frame = sample_rate // FRAMES_PER_S
    num_frames = len(sound) // samples_per_frame
    loudness = np.abs(sound[: num_frames * samples_per_frame]).reshape(num_frames, -1).mean(axis=1)
    position = (loudness / loudness.max() * (NUM_JAW_POSITIONS - 1)).round().astype(int)
    return [pictures[index] for index in position]
