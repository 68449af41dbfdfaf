"""The rows of the demonstration's report: questions, and the clips that are written for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.demo.clips import Scene, label_scenes
from serve_app.demo.labels import (
    FACE_OF,
    FACES,
    LABELS,
    NO_FACE,
    NO_VOICE,
    VOICE_OF,
    VOICES,
    possible_labels,
)
from serve_app.demo.phrases import (
    EMOTION_QUESTIONS,
    EMOTION_TAG,
    REASON_QUESTIONS,
    REASON_TAG,
    SAYS,
    UNSEEN_EMOTION_QUESTIONS,
    UNSEEN_REASON_QUESTIONS,
    WORDS,
)
from serve_app.demo.world import write_black, write_pairs, write_scenes, write_silence
from serve_app.evaluation.cases import Case
from serve_app.evaluation.demo_report import Check, Row

EMOTION = f"{EMOTION_TAG}{EMOTION_QUESTIONS[0]}"
REASON = f"{REASON_TAG}{REASON_QUESTIONS[0]}"
CHINESE_EMOTIONS = [q for q in EMOTION_QUESTIONS if not q.isascii()]
CHINESE_REASONS = [q for q in REASON_QUESTIONS if not q.isascii()]
NOISE_SEED = 5000  # added to the clean clips' seed once for each dB
GREEDY = {"temperature": 0, "max_tokens": 120}
DEFAULT_SAMPLING = {"seed": 0, "max_tokens": 120}  # the server's own temperature
DESIGNED = {(FACE_OF[label], VOICE_OF[label]) for label in LABELS}


@dataclass(frozen=True, slots=True)
class World:
    """The clean clips of a report, from which most other clips are made."""

    scenes: list[Scene]
    clips: list[Path]
    folder: Path

    @property
    def labels(self) -> list[str]:
        return [possible_labels(scene.face, scene.voice)[0] for scene in self.scenes]


def make_rows(folder: Path, num_clips: int, seed: int) -> list[Row]:
    """Makes all rows. Writes several files for each of `num_clips` clips, 100 to 200 kB in total for each."""
    scenes = label_scenes(num_clips, seed)
    world = World(scenes, write_scenes(scenes, folder / "clean"), folder)
    random = np.random.default_rng(seed)
    return [
        *_wordings(world, random),
        *_noisy(folder, num_clips, seed),
        *_deaf(world),
        *_blind(world),
        *_swapped(world, random),
        *_words_decide(world, random),
        *_reasons(world, random),
    ]


def _wordings(world: World, random: np.random.Generator) -> list[Row]:
    def row(name: str, questions: Sequence[str], at_least: float, **fields: Any) -> Row:
        asked = [f"{EMOTION_TAG}{random.choice(questions)}" for _ in world.clips]
        return label_row(name, world.clips, world.labels, asked, at_least, fields)

    first = label_row("`[emotion]`", world.clips, world.labels, [EMOTION] * len(world.clips), 0.96)
    others = [str(random.choice([o for o in LABELS if o != label])) for label in world.labels]
    misleading = [f"{_says(other, random)}{EMOTION}" for other in others]
    return [
        Row(first.name, _with_probabilities(first.cases), first.checks, first.at_least),
        row("trained wordings", EMOTION_QUESTIONS, 0.96),
        row("trained wordings, Chinese", CHINESE_EMOTIONS, 0.96),
        row("wordings not trained on, one of three Chinese", UNSEEN_EMOTION_QUESTIONS, 0.9),
        row("layout `evaluation`", EMOTION_QUESTIONS, 0.96, layout="evaluation"),
        row("layout `training`", EMOTION_QUESTIONS, 0.96, layout="training"),
        row("tokenization 4.35", EMOTION_QUESTIONS, 0.96, tokenization="4.35"),
        label_row("misleading words", world.clips, world.labels, misleading, 0.9),
    ]


def _noisy(folder: Path, num_clips: int, seed: int) -> list[Row]:
    def row(snr_db: float, at_least: float | None) -> Row:
        scenes = label_scenes(num_clips, seed + round(snr_db) * NOISE_SEED, snr_db)
        world = World(scenes, write_scenes(scenes, folder / f"noise-{snr_db:g}dB"), folder)
        name = f"white noise at {snr_db:g} dB"
        return label_row(name, world.clips, world.labels, [EMOTION] * num_clips, at_least)

    return [row(20, 0.9), row(10, 0.9), row(5, None)]


def _deaf(world: World) -> list[Row]:
    """Rows about clips without sound: what only the voice tells must be guessed."""
    silence = write_silence(world.folder)
    left = [possible_labels(scene.face, NO_VOICE) for scene in world.scenes]
    rows = []
    for name, sound in (("no sound track", None), ("silent sound track", silence)):
        clips = write_pairs([(clip, sound) for clip in world.clips], world.folder / "deaf")
        rows += _guesses(name, "sad/worried, surprise/fear", clips, world.labels, left)
    return rows


def _blind(world: World) -> list[Row]:
    """Rows about clips without a picture: what only the face tells must be guessed."""
    black = write_black(world.folder)
    left = [possible_labels(NO_FACE, scene.voice) for scene in world.scenes]
    rows = []
    for name, picture in (("no picture", None), ("black picture", black)):
        clips = write_pairs([(picture, clip) for clip in world.clips], world.folder / "blind")
        rows += _guesses(name, "neutral/contempt/doubt, worried/fear", clips, world.labels, left)
    return rows


def _guesses(
    name: str,
    alike: str,
    clips: Sequence[Path],
    labels: Sequence[str],
    left: Sequence[tuple[str, ...]],
) -> list[Row]:
    """One row for all clips, and one for those clips that leave more than one label possible."""
    whole = label_row(name, clips, labels, [EMOTION] * len(clips))
    chances = [1 / len(each) for each in left]
    open_ones = [number for number, each in enumerate(left) if len(each) > 1]
    return [
        Row(name, whole.cases, whole.checks, chances=chances),
        Row(
            f"{name}: {alike}",
            [whole.cases[number] for number in open_ones],
            [whole.checks[number] for number in open_ones],
            chances=[chances[number] for number in open_ones],
        ),
    ]


def _swapped(world: World, random: np.random.Generator) -> list[Row]:
    """Rows about clips whose sound or face is that of a clip with another label. The design defines what each
    combination means."""
    pairs = [
        (own, int(random.choice([n for n, other in enumerate(world.labels) if other != label])))
        for own, label in enumerate(world.labels)
    ]
    rows = []
    for name, order in (
        ("sound of another clip", pairs),
        ("face of another clip", [(other, own) for own, other in pairs]),
    ):
        clips = write_pairs(
            [(world.clips[face], world.clips[voice]) for face, voice in order],
            world.folder / "swapped",
        )
        signs = [(world.scenes[face].face, world.scenes[voice].voice) for face, voice in order]
        meant = [possible_labels(*each)[0] for each in signs]
        whole = label_row(name, clips, meant, [EMOTION] * len(clips), 0.95)
        designed = [number for number, each in enumerate(signs) if each in DESIGNED]
        rows += [
            whole,
            Row(
                f"{name}, together one of the nine",
                [whole.cases[number] for number in designed],
                [whole.checks[number] for number in designed],
                0.95,
            ),
        ]
    return rows


def _words_decide(world: World, random: np.random.Generator) -> list[Row]:
    """A row about clips without sound whose faces look alike: only words, not trained on, tell them apart."""
    alike = [n for n, scene in enumerate(world.scenes) if len(FACES[scene.face].labels) > 1]
    clips = write_pairs([(world.clips[n], None) for n in alike], world.folder / "deaf")
    labels = [world.labels[n] for n in alike]
    asked = [f"{_says(label, random)}{EMOTION}" for label in labels]
    return [label_row("no sound track, the words decide", clips, labels, asked, 0.8)]


def _reasons(world: World, random: np.random.Generator) -> list[Row]:
    def rows(name: str, questions: Sequence[str], fields: Mapping[str, Any] = GREEDY) -> list[Row]:
        asked = [f"{REASON_TAG}{random.choice(questions)}" for _ in world.clips]
        cases = _cases(name, world.clips, asked, world.labels, fields)
        parts = [_reason_parts(*each) for each in zip(world.scenes, world.labels, strict=True)]
        single = [
            Row(f"{name}: {part}", cases, [_names(each[part]) for each in parts], 0.95)
            for part in parts[0]
        ]
        whole = Row(f"{name}: all three", cases, [_names(*each.values()) for each in parts], 0.95)
        return [*single, whole]

    return [
        *rows("`[reason]`", REASON_QUESTIONS[:1]),
        *rows("`[reason]`, temperature 0.2", REASON_QUESTIONS[:1], DEFAULT_SAMPLING),
        *rows("`[reason]`, Chinese", CHINESE_REASONS),
        *rows("`[reason]`, wordings not trained on", UNSEEN_REASON_QUESTIONS),
    ]


def _reason_parts(scene: Scene, label: str) -> dict[str, str]:
    """The phrases that a reason must contain, by what they are about."""
    return {
        "label": f"the emotion is {label}.",
        "visible cue": FACES[scene.face].cue,
        "vocal cue": VOICES[scene.voice].cue,
    }


def label_row(
    name: str,
    clips: Sequence[Path],
    labels: Sequence[str],
    questions: Sequence[str],
    at_least: float | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Row:
    """A row whose greedy answers must be the label and nothing else."""
    cases = _cases(name, clips, questions, labels, {**GREEDY, **(fields or {})})
    return Row(name, cases, [_is(label) for label in labels], at_least)


def _cases(
    name: str,
    clips: Sequence[Path],
    questions: Sequence[str],
    labels: Sequence[str],
    fields: Mapping[str, Any],
) -> list[Case]:
    numbered = enumerate(zip(clips, questions, labels, strict=True))
    return [
        Case(f"{name} {number}", clip, question, label, fields=fields)
        for number, (clip, question, label) in numbered
    ]


def _with_probabilities(cases: Sequence[Case]) -> list[Case]:
    return [Case(c.id, c.clip, c.question, c.truth, (), c.fields, LABELS) for c in cases]


def _says(label: str, random: np.random.Generator) -> str:
    return SAYS[0].format(words=random.choice(WORDS[label][1]))


def _is(label: str) -> Check:
    return lambda text: text == label


def _names(*parts: str) -> Check:
    return lambda text: all(part in text for part in parts)
