"""Measures a demonstration checkpoint on fresh clips that went through real codecs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from demo.answering import CHAT, Demo, Views
from demo.material import EMOTION, Material, Row, make_material, share
from demo.robustness import under_noise, with_other_sound, without_modality
from serve_app.demo.clips import Scene, label_scenes
from serve_app.demo.labels import FACES, LABELS, VOICES, possible_labels
from serve_app.demo.phrases import (
    EMOTION_QUESTIONS,
    REASON_QUESTIONS,
    SAYS,
    UNSEEN_EMOTION_QUESTIONS,
    UNSEEN_REASON_QUESTIONS,
    WORDS,
)
from serve_app.types import PromptOptions

REASON = f"[reason] {REASON_QUESTIONS[0]}"
DEFAULT_TEMPERATURE = 0.2  # the product's


@dataclass(frozen=True, slots=True)
class Measured:
    """A card's numbers."""

    num_clips: int
    seed: int
    rows: list[Row]
    confusion: npt.NDArray[np.int64]  # (9, 9 + 1) true label, answer; the last: no label at all


def measure(demo: Demo, folder: Path, num_clips: int, seed: int) -> Measured:
    """Writes `num_clips` mp4 files per noise level into `folder`."""
    clean = make_material(demo, label_scenes(num_clips, seed), folder)
    random = np.random.default_rng(seed)
    answers = demo.answer(clean.views, [EMOTION] * num_clips)
    rows = [Row("`[emotion]`", share(answers, clean.labels))]
    rows += _wordings(demo, clean, random)
    rows += under_noise(demo, folder, num_clips, seed)
    rows += without_modality(demo, clean)
    rows += with_other_sound(demo, clean, random)
    rows += _words_decide(demo, clean, random)
    rows += _reasons(demo, clean, random)
    return Measured(num_clips, seed, rows, confusion(clean.labels, answers))


def confusion(truth: Sequence[str], answers: Sequence[str]) -> npt.NDArray[np.int64]:
    """(9, 10) counts: rows the true label, columns the answer, the last column anything else."""
    counts = np.zeros((len(LABELS), len(LABELS) + 1), np.int64)
    for label, answer in zip(truth, answers, strict=True):
        column = LABELS.index(answer) if answer in LABELS else len(LABELS)
        counts[LABELS.index(label), column] += 1
    return counts


def _wordings(demo: Demo, clean: Material, random: np.random.Generator) -> list[Row]:
    count, truth = len(clean.scenes), clean.labels

    def asked(questions: Sequence[str], options: PromptOptions = CHAT) -> float:
        drawn = [f"[emotion] {random.choice(questions)}" for _ in range(count)]
        return share(demo.answer(clean.views, drawn, options), truth)

    others = [str(random.choice([o for o in LABELS if o != label])) for label in truth]
    misleading = [f"{_says(other, random)}{EMOTION}" for other in others]
    evaluation, training = PromptOptions(layout="evaluation"), PromptOptions(layout="training")
    return [
        Row("trained wordings, three of nine Chinese", asked(EMOTION_QUESTIONS)),
        Row("wordings not trained on, one of three Chinese", asked(UNSEEN_EMOTION_QUESTIONS)),
        Row("layout `evaluation`", asked(EMOTION_QUESTIONS, evaluation)),
        Row("layout `training`", asked(EMOTION_QUESTIONS, training)),
        Row("tokenization 4.35", asked(EMOTION_QUESTIONS, PromptOptions(tokenization="4.35"))),
        Row("misleading words", share(demo.answer(clean.views, misleading), truth)),
    ]


def _says(label: str, random: np.random.Generator) -> str:
    """Words that were not trained on."""
    return SAYS[0].format(words=random.choice(WORDS[label][1]))


def _words_decide(demo: Demo, clean: Material, random: np.random.Generator) -> list[Row]:
    """Without the sound, words that were not trained on tell the ambiguous faces apart."""
    chosen = [i for i, s in enumerate(clean.scenes) if len(FACES[s.face].labels) > 1]
    index = torch.tensor(chosen)
    silent = demo.listen([None]).expand(len(chosen), -1)
    deaf = Views(clean.views.cls[index], clean.views.patches[index], silent)
    truth = [clean.labels[i] for i in chosen]
    answers = demo.answer(deaf, [f"{_says(label, random)}{EMOTION}" for label in truth])
    return [Row("no sound track, the words decide", share(answers, truth))]


def _reasons(demo: Demo, clean: Material, random: np.random.Generator) -> list[Row]:
    count = len(clean.scenes)
    unseen = [f"[reason] {random.choice(UNSEEN_REASON_QUESTIONS)}" for _ in range(count)]
    torch.manual_seed(0)
    rows = []
    for name, questions, temperature in (
        ("`[reason]`", [REASON] * count, 0.0),
        ("`[reason]`, temperature 0.2", [REASON] * count, DEFAULT_TEMPERATURE),
        ("`[reason]`, wordings not trained on", unseen, 0.0),
    ):
        answers = demo.answer(clean.views, questions, temperature=temperature)
        checks = np.array([reason_checks(a, s) for a, s in zip(answers, clean.scenes, strict=True)])
        parts = zip(("label", "visible cue", "vocal cue"), checks.mean(axis=0), strict=True)
        rows += [Row(f"{name}: {part}", float(score)) for part, score in parts]
        rows.append(Row(f"{name}: all three", float(checks.all(axis=1).mean())))
    return rows


def reason_checks(answer: str, scene: Scene) -> tuple[bool, bool, bool]:
    """Does it name the right label, the right visible cue, and the right vocal cue."""
    label = possible_labels(scene.face, scene.voice)[0]
    return (
        answer.endswith(f"the emotion is {label}."),
        FACES[scene.face].cue in answer,
        VOICES[scene.voice].cue in answer,
    )


def as_json(measured: Measured) -> dict[str, Any]:
    """For scripts; the card is for people."""
    return {
        "num_clips": measured.num_clips,
        "seed": measured.seed,
        "scores": {row.test: {"score": row.score, "ideal": row.ideal} for row in measured.rows},
        "confusion": measured.confusion.tolist(),
    }
