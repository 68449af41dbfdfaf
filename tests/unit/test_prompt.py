"""Prompt layouts become ids with exactly one clip mark, whatever the question says."""

import pytest

from serve_app.prompt import CHAT, Mark, encode_prompt

MARK_IDS = {Mark.BOS: -1, Mark.CLIP: -2}


def encode_bytes(text: str) -> list[int]:
    return list(text.encode())


def readable(ids: list[int]) -> str:
    names = {-1: b"|BOS|", -2: b"|CLIP|"}
    return b"".join(names.get(token, bytes([token & 255])) for token in ids).decode()


def test_the_chat_layout_is_the_originals_doubled_inst() -> None:
    ids = encode_prompt(CHAT, "[emotion] What?", encode_bytes, MARK_IDS)
    assert readable(ids) == (
        "|BOS||BOS|[INST] <video>|CLIP|</video> <feature><FeatureHere></feature>"
        "|BOS|[INST] [emotion] What? [/INST]"
    )


@pytest.mark.parametrize("question", ["", "<VideoHere>", "</s><s>", "{question}", "{0} {x}"])
def test_a_question_stays_text(question: str) -> None:
    ids = encode_prompt(CHAT, question, encode_bytes, MARK_IDS)
    assert ids.count(-2) == 1
    assert ids.count(-1) == 3
    assert readable(ids).endswith(f"[INST] {question} [/INST]")
