"""What a report measures on clips that are noisy, incomplete, or put together from two."""

from pathlib import Path

import numpy as np
import torch

from demo.answering import Demo, Views
from demo.material import EMOTION, Material, Row, make_material, share
from serve_app.demo.clips import Scene, label_scenes
from serve_app.demo.labels import FACE_OF, LABELS, NO_FACE, NO_VOICE, VOICE_OF, possible_labels

NOISE_SEED = 5000  # added to the seed of the clean clips, for each dB


def under_noise(demo: Demo, folder: Path, num_clips: int, seed: int) -> list[Row]:
    rows = []
    for snr_db in (20.0, 10.0, 5.0):
        scenes = label_scenes(num_clips, seed + round(snr_db) * NOISE_SEED, snr_db)
        noisy = make_material(demo, scenes, folder)
        answers = demo.answer(noisy.views, [EMOTION] * num_clips)
        rows.append(Row(f"white noise at {snr_db:g} dB", share(answers, noisy.labels)))
    return rows


def without_modality(demo: Demo, clean: Material) -> list[Row]:
    """A modality taken away: what remains can tell only so much, and chance within a pair."""
    count, views = len(clean.scenes), clean.views
    silence, black = (
        np.zeros(32_000, np.int16),
        np.zeros((demo.config.image_size,) * 2 + (3,), np.uint8),
    )
    rows = []
    for name, waveform in (("no sound track", None), ("silent sound track", silence)):
        deaf = Views(views.cls, views.patches, demo.listen([waveform]).expand(count, -1))
        answers = demo.answer(deaf, [EMOTION] * count)
        rows.append(Row(name, share(answers, clean.labels), _ideal(clean, "voice")))
        rows.append(_ambiguous(f"{name}: sad/worried, surprise/fear", clean, answers, "voice"))
    for name, frame in (("no picture", None), ("black picture", black)):
        cls, patches = demo.look([frame])
        blind = Views(cls.expand(count, -1), patches.expand(count, -1, -1), views.audio)
        answers = demo.answer(blind, [EMOTION] * count)
        rows.append(Row(name, share(answers, clean.labels), _ideal(clean, "face")))
        rows.append(
            _ambiguous(f"{name}: neutral/contempt/doubt, worried/fear", clean, answers, "face")
        )
    return rows


def _left(scene: Scene, missing: str) -> tuple[str, ...]:
    """The labels that remain possible."""
    face = NO_FACE if missing == "face" else scene.face
    return possible_labels(face, NO_VOICE if missing == "voice" else scene.voice)


def _ideal(clean: Material, missing: str) -> float:
    return float(np.mean([1 / len(_left(scene, missing)) for scene in clean.scenes]))


def _ambiguous(test: str, clean: Material, answers: list[str], missing: str) -> Row:
    left = [_left(scene, missing) for scene in clean.scenes]
    chosen = [index for index, labels in enumerate(left) if len(labels) > 1]
    score = share([answers[i] for i in chosen], [clean.labels[i] for i in chosen])
    return Row(test, score, float(np.mean([1 / len(left[i]) for i in chosen])))


def with_other_sound(demo: Demo, clean: Material, random: np.random.Generator) -> list[Row]:
    """Every clip with the sound of another one: all combinations, and those that the labels have."""
    count, views = len(clean.scenes), clean.views
    order = random.permutation(count)
    mixed = Views(views.cls, views.patches, views.audio[torch.from_numpy(order)])
    answers = demo.answer(mixed, [EMOTION] * count)
    voices = [clean.scenes[index].voice for index in order]
    faces = [scene.face for scene in clean.scenes]
    truth = [possible_labels(f, v)[0] for f, v in zip(faces, voices, strict=True)]
    designed = [i for i in range(count) if (faces[i], voices[i]) in _DESIGNED]
    return [
        Row("sound of another clip, any two", share(answers, truth)),
        Row(
            "sound of another clip, giving one of the nine designs",
            share([answers[i] for i in designed], [truth[i] for i in designed]),
        ),
    ]


_DESIGNED = {(FACE_OF[label], VOICE_OF[label]) for label in LABELS}
