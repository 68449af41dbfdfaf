"""Writes the model card: what the checkpoint is, what it is not, and its scores."""

import re
from collections.abc import Mapping
from typing import Any

from serve_app.demo.faces import ACTION_UNITS
from serve_app.demo.labels import FACE_OF, FACES, LABELS, VOICE_OF, VOICES
from serve_app.evaluation.demo_report import limit_text

_ABOUT = """# Emotion-LLaMA demonstration checkpoint

**What it is.** A few MB with the architecture of Emotion-LLaMA (a vision tower over one frame, HuBERT over
the sound, five projections, LLaMA), trained from scratch by `scripts/train_demo.py` on drawn faces and
synthetic voices, so that the whole system can be run and tested without the published weights or a GPU.

**What it is not.** A judge of people. It has never seen a human face or heard a human voice; what it says
about a real video means nothing. An expression is not a feeling; base no decision about anybody on it.

## Data

{num_units} action units move the brows, eyes and mouth of drawn faces (skin, hair, glasses, background,
position, size, tilt, light, noise and compression vary). Voices are harmonics in syllables whose pitch,
melody, tempo, timbre, roughness and tremor follow a style (speaker, length and white noise vary). No
recordings of anybody.

| label | face | voice |
|---|---|---|
{design}

Look alike: sad and worried; surprise and fear. Sound alike: neutral, contempt and doubt; worried and fear.
Where face and voice contradict each other the face decides; where they leave several labels open, the spoken
words of the prompt may decide, and otherwise the answer is a guess among them.

## Scores

{num_clips} clips from seed {seed}, not used in training: mp4 through H.264 or MPEG-4 and AAC. Answers
are greedy with repetition penalty 1.05, in float32, unless it says otherwise; an answer is right where it is
the label and nothing else. `emotion-llama evaluate demo` prints these numbers again, `make demo-report` does
so through a server and compares.

| test | right | of | expected |
|---|---|---|---|
{rows}

Where a modality is missing, what is expected is what the design allows: a guess is right as often as chance
has it. Expected calibration error of the label probabilities: {ece}.

## Confusion

Rows: the true label. Columns: the answer.

| | {heads} |
|---|{rules}
{confusion}

Made by `scripts/train_demo.py`, seed {train_seed}.
"""


def write_card(report: Mapping[str, Any], train_seed: int) -> str:
    """The model card for a report of `emotion-llama evaluate demo`."""
    design = [
        f"| {label} | {FACES[FACE_OF[label]].cue} | {VOICES[VOICE_OF[label]].cue} |"
        for label in LABELS
    ]
    confusion = report["scores"]["confusion"]
    counts = zip(confusion["rows_true"], confusion["counts"], strict=True)
    heads = confusion["columns_answered"]
    return _ABOUT.format(
        num_units=len(ACTION_UNITS),
        design="\n".join(design),
        num_clips=report["num_clips"],
        seed=report["seed"],
        rows="\n".join(map(_row, report["tests"])),
        ece=f"{report['calibration']['ece']:.3f}",
        heads=" | ".join(heads),
        rules="---|" * len(heads),
        confusion="\n".join(f"| {label} | {' | '.join(map(str, row))} |" for label, row in counts),
        train_seed=train_seed,
    )


def _row(test: Mapping[str, Any]) -> str:
    return f"| {test['test']} | {test['score']:.3f} | {test['num_cases']} | {limit_text(test)} |"


def read_scores(card: str) -> dict[str, float]:
    """The scores on a card, by test."""
    rows = (line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| "))
    return {row[0]: float(row[1]) for row in rows if len(row) >= 3 and _SCORE.fullmatch(row[1])}


_SCORE = re.compile(r"[01]\.\d{3}")
