"""The model card: what the checkpoint is, what it is not, and what was measured."""

from demo.measuring import Measured
from serve_app.demo.faces import ACTION_UNITS
from serve_app.demo.labels import FACE_OF, FACES, LABELS, VOICE_OF, VOICES

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

{num_clips} clips per test from seed {seed}, not used in training: mp4 through H.264 or MPEG-4 and AAC,
decoded as the server does. Answers are greedy with repetition penalty 1.05, in float32, unless it says
otherwise.

| test | right | ideal |
|---|---|---|
{rows}

`ideal` is what the design allows where a modality is missing: a guess is right as often as chance has it.

## Confusion

Rows: the true label. Columns: the answer.

| | {heads} | other |
|---|{rules}---|
{confusion}

Made by `scripts/train_demo.py`, seed {train_seed}; `--report` measures again.
"""


def write_card(measured: Measured, train_seed: int) -> str:
    design = [
        f"| {label} | {FACES[FACE_OF[label]].cue} | {VOICES[VOICE_OF[label]].cue} |"
        for label in LABELS
    ]
    rows = [
        f"| {row.test} | {row.score:.3f} | {'' if row.ideal is None else f'{row.ideal:.3f}'} |"
        for row in measured.rows
    ]
    confusion = [
        f"| {label} | {' | '.join(map(str, counts))} |"
        for label, counts in zip(LABELS, measured.confusion.tolist(), strict=True)
    ]
    return _ABOUT.format(
        num_units=len(ACTION_UNITS),
        design="\n".join(design),
        num_clips=measured.num_clips,
        seed=measured.seed,
        rows="\n".join(rows),
        heads=" | ".join(LABELS),
        rules="---|" * len(LABELS),
        confusion="\n".join(confusion),
        train_seed=train_seed,
    )
