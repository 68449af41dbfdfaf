"""The clips of a report: written, decoded as the server does, and seen by the towers once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.answering import Demo, Views
from serve_app.demo.clips import Scene, write_scene
from serve_app.demo.labels import possible_labels
from serve_app.demo.phrases import EMOTION_QUESTIONS
from serve_app.media.decode import decode_clip
from serve_app.settings import MediaSettings
from serve_app.types import DecodeOptions

EMOTION = f"[emotion] {EMOTION_QUESTIONS[0]}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the card."""

    test: str
    score: float  # share of right answers
    ideal: float | None = None  # what the design allows, where that is not 1


@dataclass(frozen=True, slots=True)
class Material:
    """Clips as the server decodes them, and what the checkpoint's towers make of them."""

    scenes: list[Scene]
    views: Views

    @property
    def labels(self) -> list[str]:
        return [possible_labels(scene.face, scene.voice)[0] for scene in self.scenes]


def make_material(demo: Demo, scenes: list[Scene], folder: Path) -> Material:
    paths = [write_scene(scene, folder) for scene in scenes]
    size = demo.config.image_size
    clips = [
        decode_clip(path.read_bytes(), DecodeOptions(), MediaSettings(), size) for path in paths
    ]
    cls, patches = demo.look([clip.frame for clip in clips])
    return Material(scenes, Views(cls, patches, demo.listen([clip.waveform for clip in clips])))


def share(answers: Sequence[str], truth: Sequence[str]) -> float:
    return float(np.mean([a == t for a, t in zip(answers, truth, strict=True)]))
