"""Emotion labels: the sets that are asked for and scored, the names they go by, and the question for them."""

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
"""Those of the original's prompt."""

MER_SIX = ("neutral", "angry", "happy", "sad", "worried", "surprise")
"""Those that MER2023 and MER2024 score."""

DFEW_SEVEN = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""In the order of the data set's numbers, 1 to 7."""

REASON_QUESTIONS = (
    "What are the facial expressions and vocal tone used in the video? "
    "What is the intended meaning behind the words? Which emotion does this reflect?",
    "Please analyze all the clues in the video and reason out the emotional label of the person "
    "in the video.",
    "What is the emotional state of the person in the video? Please tell me the reason.",
    "Please integrate information from various modalities to infer the emotional category of the person "
    "in the video.",
    "Could you describe the emotion-related features of the individual in the video? "
    "What emotional category do they fall into?",
)
"""The original's pool for [reason] (reason_instruction_pool of its data sets)."""

_OTHER_NAMES = {
    "happy": ("happiness", "joy", "joyful", "happily"),
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
ALIASES = {name: label for label, names in _OTHER_NAMES.items() for name in (label, *names)}
_WORD = re.compile(r"[^\W\d_]+")


def emotion_question(labels: Iterable[str]) -> str:
    """The original's words (its evaluation script), for any labels."""
    return (
        "[emotion] Please determine which emotion label in the video represents: "
        f"{', '.join(labels)}."
    )


def canonical(name: str) -> str:
    """A label by its usual name: "Happiness" is "happy". An unknown one in lower case."""
    plain = name.strip().strip(".,;:!?\"'").lower()
    return ALIASES.get(plain, plain)


def find_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that a free answer gives: the answer itself, or the last word that names one of `labels`."""
    whole = canonical(text)
    if whole in labels:
        return whole
    named = (canonical(word) for word in reversed(_WORD.findall(text)))
    return next((label for label in named if label in labels), None)
