"""Generates random exercises: questions about clips, with the right answers."""

from dataclasses import dataclass

import numpy as np

from serve_app.demo.labels import (
    FACE_OF,
    FACES,
    LABELS,
    NO_FACE,
    NO_VOICE,
    VOICE_OF,
    VOICES,
    possible_labels,
    reason,
    with_words,
)
from serve_app.demo.phrases import (
    EMOTION_QUESTIONS,
    EMOTION_TAG,
    REASON_QUESTIONS,
    REASON_TAG,
    SAYS,
    WORDS,
)
from serve_app.prompt import LAYOUTS, QUESTION, Prompt, encode_prompt
from serve_app.tokenizer import Tokenizer, split_special
from serve_app.types import LayoutName, PromptOptions

CLIP_POSITION = -1  # stands for an embedding of the clip in a sequence of token ids
NUM_LAST_POSITIONS = 4  # a clip's last positions: face, temporal, audio, cls
SHARES = {"label": 0.47, "mixed": 0.22, "no face": 0.1, "no voice": 0.11, "neither": 0.1}
REASON_SHARE = 0.5
WORDS_SHARE = 0.5
HELPFUL_SHARE = 0.7  # sentences that suggest a possible label, where several labels are possible
FRAGMENT_SHARE = 0.5  # sentences with words left out, so that they are not learned as a whole
KEPT_SHARE = 0.6  # words that are kept in such a fragment
UNTAGGED_SHARE = 0.08  # exercises without a tag: the question alone says what is wanted
FOREIGN_QUESTION_SHARE = 0.1  # questions that ask for the other kind of answer: the tag decides
LAYOUT_SHARES: dict[LayoutName, float] = {"chat": 0.6, "evaluation": 0.2, "training": 0.2}
NEW_TOKENIZATION_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Exercise:
    """A face, a voice, a prompt and its answer."""

    face: str
    voice: str
    question: str
    answer: str
    options: PromptOptions


def draw_exercise(random: np.random.Generator) -> Exercise:
    face, voice = _draw_signs(random)
    candidates = possible_labels(face, voice)
    words, words_label = _draw_words(candidates, random)
    # If nothing tells the candidates apart, each of them is the answer equally often.
    label = str(random.choice(with_words(candidates, words_label)))
    wants_reason = random.random() < REASON_SHARE
    tag = REASON_TAG if wants_reason else EMOTION_TAG
    pool = REASON_QUESTIONS if wants_reason else EMOTION_QUESTIONS
    form = random.random()
    if form < UNTAGGED_SHARE:
        tag = ""
    elif form < UNTAGGED_SHARE + FOREIGN_QUESTION_SHARE:
        pool = EMOTION_QUESTIONS if wants_reason else REASON_QUESTIONS
    layout = random.choice(len(LAYOUT_SHARES), p=list(LAYOUT_SHARES.values()))
    is_new = random.random() < NEW_TOKENIZATION_SHARE
    return Exercise(
        face=face,
        voice=voice,
        question=words + tag + str(random.choice(pool)),
        answer=reason(face, voice, label, int(random.integers(2))) if wants_reason else label,
        options=PromptOptions(
            layout=list(LAYOUT_SHARES)[layout], tokenization="4.35" if is_new else "4.30"
        ),
    )


def _draw_signs(random: np.random.Generator) -> tuple[str, str]:
    kind = random.choice(list(SHARES), p=list(SHARES.values()))
    label = str(random.choice(LABELS))
    mixed = kind == "mixed"
    face = str(random.choice(list(FACES))) if mixed else FACE_OF[label]
    voice = str(random.choice(list(VOICES))) if mixed else VOICE_OF[label]
    return (
        NO_FACE if kind in ("no face", "neither") else face,
        NO_VOICE if kind in ("no voice", "neither") else voice,
    )


def _draw_words(candidates: tuple[str, ...], random: np.random.Generator) -> tuple[str, str | None]:
    """The start of the prompt with the spoken words, and the label that these suggest."""
    if random.random() > WORDS_SHARE:
        return "", None
    helpful = len(candidates) > 1 and random.random() < HELPFUL_SHARE
    label = str(random.choice(candidates if helpful else LABELS))
    words = str(random.choice(WORDS[label][0]))
    if random.random() < FRAGMENT_SHARE:
        words = _fragment(words, random)
    return str(random.choice(SAYS)).format(words=words), label


def _fragment(words: str, random: np.random.Generator) -> str:
    """Some of the words, at least two, in their order."""
    parts = words.split()
    count = max(2, round(KEPT_SHARE * len(parts)))
    kept = sorted(random.permutation(len(parts))[:count])
    return " ".join(parts[index] for index in kept)


def encode_exercise(
    options: PromptOptions, question: str, tokenizer: Tokenizer, num_clip_positions: int
) -> list[int]:
    """Token ids of the prompt, with CLIP_POSITION where the clip's embeddings go."""
    prompt: Prompt = encode_prompt(options, question, tokenizer)
    clip = [CLIP_POSITION] * num_clip_positions
    if prompt.before_features is not None:
        clip[-NUM_LAST_POSITIONS:-NUM_LAST_POSITIONS] = prompt.before_features
    return [*prompt.before_clip, *clip, *prompt.after_clip]


def corpus(num_exercises: int, seed: int) -> list[str]:
    """Text like that of the exercises, without special tokens, to train the tokenizer on."""
    random = np.random.default_rng(seed)
    lines: list[str] = []
    for _ in range(num_exercises):
        exercise = draw_exercise(random)
        layout = LAYOUTS[exercise.options.layout]
        text = layout.template.replace(QUESTION, exercise.question)
        lines += [*split_special(text)[::2], exercise.answer]
    return [line for line in lines if line]
