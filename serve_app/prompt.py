"""Prompt layouts as data, and their way into token ids."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

QUESTION = "{question}"


class Mark(Enum):
    """The parts of a prompt that are single ids, never text."""

    BOS = "<s>"
    CLIP = "<VideoHere>"


@dataclass(frozen=True, slots=True)
class PromptLayout:
    """A named sequence of marks and text pieces; one piece holds the question."""

    name: str
    parts: tuple[Mark | str, ...]


# The original's client: its doubled [INST] and the literal <FeatureHere> are what the model was served
# with. All clip positions stand at the clip mark.
CHAT = PromptLayout(
    "chat",
    (
        Mark.BOS,
        Mark.BOS,
        "[INST] <video>",
        Mark.CLIP,
        "</video> <feature><FeatureHere></feature>",
        Mark.BOS,
        f"[INST] {QUESTION} [/INST]",
    ),
)


def encode_prompt(
    layout: PromptLayout,
    question: str,
    encode_text: Callable[[str], list[int]],
    mark_ids: dict[Mark, int],
) -> list[int]:
    """Token ids of one question in a layout.

    Args:
        encode_text: plain text to ids, without special tokens added or recognised: a question that
            spells `</s>` or `<VideoHere>` must stay text.
        mark_ids: the id of each mark.
    """
    ids: list[int] = []
    for part in layout.parts:
        if isinstance(part, Mark):
            ids.append(mark_ids[part])
        else:
            ids.extend(encode_text(part.replace(QUESTION, question)))
    return ids
