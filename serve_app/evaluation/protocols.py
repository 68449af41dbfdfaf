"""Protocols: the question each asks, the labels it scores, and how it reads a label from an answer.

Sources of the published protocols: the original's eval_emotion.py, mer2024.py and result files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.emotions import (
    DFEW_SEVEN,
    MER_SIX,
    NINE,
    emotion_question,
    find_label,
    with_sentence,
)
from serve_app.types import LayoutName, Parity

# The original's evaluation samples like this: greedy, no penalty, at most 500 tokens.
SAMPLING = {"temperature": 0, "repetition_penalty": 1, "max_tokens": 500}
LAYOUT: LayoutName = "evaluation"
REFERENCE_FALLBACK = "neutral"  # the original counts an answer outside its label set as this


def request_fields(parity: Parity) -> dict[str, Any]:
    """Fields of every request's body."""
    return {**SAMPLING, "parity": parity, "layout": LAYOUT, "tokenization": "4.30"}


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to evaluate labels."""

    name: str
    asked: tuple[str, ...]  # the labels that the prompt names
    scored: tuple[str, ...]  # the labels that count
    parity: Parity  # the default; the caller may choose another
    sentence_column: str  # column in the file with the transcripts
    feature_folders: tuple[str, ...] = ()  # face, temporal, audio
    published: Mapping[str, float] | None = None  # the original's own scores
    notes: tuple[str, ...] = ()  # shown in every report

    is_exact: bool = False  # an answer must be the label and nothing else

    def question(self, sentence: str | None) -> str:
        """The prompt's question, with the transcript if there is one."""
        return with_sentence(sentence, emotion_question(self.asked))

    def read(self, text: str, parity: Parity) -> str | None:
        """The label in an answer; None if it has none of the scored ones.

        With parity `reference` by the original's rule: the last word, spelled exactly like a label.
        """
        if parity == "default" and not self.is_exact:
            return find_label(text, self.scored)
        label = text if self.is_exact else text.split(" ")[-1]
        return label if label in self.scored else None


MER2023_FEATURES = ("mae_340_UTT", "maeV_399_UTT", "HL-UTT")
_FEW = "surprise has 14 samples; fear, contempt and doubt have none"

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="mer2023",
            asked=NINE,
            scored=MER_SIX,
            parity="reference",
            sentence_column="sentence",
            feature_folders=MER2023_FEATURES,
            published={"accuracy": 0.90528, "weighted_f1": 0.90358},
            notes=(
                f"MER2023-SEMI, 834 clips: the prompt names nine labels, six are scored; {_FEW}",
            ),
        ),
        Protocol(
            name="mer2024",
            asked=MER_SIX,
            scored=MER_SIX,
            parity="reference",
            sentence_column="sentence_en",
            feature_folders=("mae_340_23_UTT", "maeVideo_399_23_UTT", "HL_23_UTT"),
            published={"accuracy": 0.85214, "weighted_f1": 0.84581},
            notes=("MER2024-NOISE, 1170 clips",),
        ),
        Protocol(
            name="dfew",
            asked=DFEW_SEVEN,
            scored=DFEW_SEVEN,
            parity="reference",
            sentence_column="sentence",
            notes=(
                "our protocol: no code for DFEW was published, so the prompt, label names and fold of the "
                "paper's figures are unknown, and this does not reproduce them",
            ),
        ),
        Protocol(
            name="custom",
            asked=NINE,
            scored=NINE,
            parity="default",
            sentence_column="transcription",
            notes=("our protocol",),
        ),
    )
}
