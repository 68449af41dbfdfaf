"""Emotion labels: the sets that are asked for and scored, their other names, and the original's questions."""

import re
from collections.abc import Iterable, Sequence

NINE = (
    "happy",
    "sad",
    "neutral",
    "angry",
    "worried",
    "surprise",
    "fear",
    "contempt",
    "doubt",
)
"""The nine labels of the original's prompt."""

MER_SIX = NINE[:6]
"""The labels that MER2023 and MER2024 score, in the order of MER2024's prompt."""

DFEW_SEVEN = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""DFEW's labels, in the order of the data set's numbers, 1 to 7."""

REASON_QUESTIONS = (
    "Please analyze all the clues in the video and reason out the emotional label of the person "
    "in the video.",
    "What is the emotional state of the person in the video? Please tell me the reason.",
    "What are the facial expressions and vocal tone used in the video? "
    "What is the intended meaning behind his words? Which emotion does this reflect?",
    "Please integrate information from various modalities to infer the emotional category of the person "
    "in the video.",
    "Could you describe the emotion-related features of the individual in the video? "
    "What emotional category do they fall into?",
)
"""The original's pool for [reason] (reason_instruction_pool of its data sets)."""

WHY_QUESTION = f"[reason] {REASON_QUESTIONS[2]}"
"""The question for a reason where the caller gives none; answered greedily."""

_OTHER_NAMES = {
    "happy": ("happiness", "joy", "joyful"),
    "sad": ("sadness", "sorrow", "sorrowful", "unhappy"),
    "neutral": ("neutrality", "calm"),
    "angry": ("anger", "furious"),
    "worried": ("worry", "anxious", "anxiety"),
    "surprise": ("surprised", "surprising", "astonished"),
    "fear": ("fearful", "afraid", "scared"),
    "contempt": ("contemptuous",),
    "doubt": ("doubtful", "suspicious"),
    "disgust": ("disgusted", "disgusting"),
}
_KIND = {name: label for label, names in _OTHER_NAMES.items() for name in (label, *names)}


def split_labels(text: str) -> tuple[str, ...]:
    """The labels in a comma-separated text."""
    return tuple(label.strip() for label in text.split(","))


def emotion_question(labels: Iterable[str]) -> str:
    """The question of the original's evaluation script, for any labels."""
    return (
        "[emotion] Please determine which emotion label in the video represents: "
        f"{', '.join(labels)}."
    )


def with_sentence(sentence: str | None, question: str) -> str:
    """The question after the spoken sentence, in the original's format, which has two spaces between them."""
    return f"The person in video says: {sentence}.  {question}" if sentence else question


def plain(name: str) -> str:
    """The name in lower case, without surrounding punctuation and white space."""
    return name.strip().strip(".,;:!?\"'").lower()


def same_label(name: str, labels: Sequence[str]) -> str | None:
    """The label that this name means: itself, or the only label that it is a synonym of."""
    own = plain(name)
    if own in labels:
        return own
    kind = _KIND.get(own)
    alike = [label for label in labels if kind is not None and _KIND.get(label) == kind]
    return alike[0] if len(alike) == 1 else None


def find_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that a free-text answer gives: the whole answer, or the label named last in it."""
    whole = same_label(text, labels)
    if whole is not None:
        return whole
    named = [
        (found.end(), len(name), label)
        for name in {*labels, *_KIND}
        for label in [same_label(name, labels)]
        if label is not None
        for found in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text.lower())
    ]
    return max(named)[2] if named else None
