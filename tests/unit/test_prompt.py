"""Prompt layouts become ids around exactly one clip, whatever the question says."""

from pathlib import Path

import pytest

from serve_app.errors import InvalidRequestError
from serve_app.prompt import LAYOUTS, encode_prompt
from serve_app.tokenizer import Tokenizer
from serve_app.types import LayoutName, Parity, PromptOptions, Tokenization

BOS, EOS, UNK = 1, 2, 0
TOKENIZATIONS: tuple[Tokenization, ...] = ("4.30", "4.35")
LAYOUT_NAMES: tuple[LayoutName, ...] = ("chat", "evaluation", "training")


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return Tokenizer(tiny_checkpoint)


def readable(tokenizer: Tokenizer, ids: list[int] | None) -> str:
    """Text of the ids, with BOS written as |; sentencepiece decodes each run between them."""
    runs: list[list[int]] = [[]]
    for token in ids or []:
        if token == BOS:
            runs.append([])
        else:
            runs[-1].append(token)
    return "|".join(tokenizer.decode(run) for run in runs)


@pytest.mark.parametrize("tokenization", TOKENIZATIONS)
@pytest.mark.parametrize(
    ("layout", "before_clip", "before_features", "after_clip"),
    [
        (
            "chat",
            "||[INST] <video>",
            None,
            "</video> <feature><FeatureHere></feature>|[INST] [emotion] What? [/INST]",
        ),
        (
            "evaluation",
            "||[INST] <video>",
            None,
            "</video> <feature><FeatureHere></feature> [emotion] What?  [/INST]",
        ),
        (
            "training",
            "|[INST] <video>",
            "</video> <feature>",
            "</feature> [emotion] What?  [/INST]",
        ),
    ],
)
def test_a_layout_is_the_originals_text(
    tokenizer: Tokenizer,
    tokenization: Tokenization,
    layout: LayoutName,
    before_clip: str,
    before_features: str | None,
    after_clip: str,
) -> None:
    options = PromptOptions(layout, tokenization)
    prompt = encode_prompt(options, "[emotion] What?", tokenizer)
    assert readable(tokenizer, prompt.before_clip) == before_clip
    assert readable(tokenizer, prompt.before_features) == (before_features or "")
    assert (prompt.before_features is None) == (before_features is None)
    assert readable(tokenizer, prompt.after_clip) == after_clip


def test_the_tokenizations_differ_after_a_special_token_alone(tokenizer: Tokenizer) -> None:
    old, new = (
        encode_prompt(PromptOptions("chat", tokenization), "What?", tokenizer)
        for tokenization in TOKENIZATIONS
    )
    assert old.before_clip[:2] == new.before_clip[:2] == [BOS, BOS]
    assert old.before_clip[2] != new.before_clip[2]
    assert old.before_clip[3:] == new.before_clip[3:]
    training = {
        str(encode_prompt(PromptOptions("training", tokenization), "What?", tokenizer))
        for tokenization in TOKENIZATIONS
    }
    assert len(training) == 1  # its only special token is not part of any text


@pytest.mark.parametrize("tokenization", TOKENIZATIONS)
@pytest.mark.parametrize("layout", LAYOUT_NAMES)
@pytest.mark.parametrize(
    "question", ["", "<VideoHere>", "</s><s>", "a<unk> <FeatureHere>", "{question}"]
)
def test_a_question_stays_text(
    tokenizer: Tokenizer, layout: LayoutName, tokenization: Tokenization, question: str
) -> None:
    plain = encode_prompt(PromptOptions(layout, tokenization), "", tokenizer)
    prompt = encode_prompt(PromptOptions(layout, tokenization), question, tokenizer)
    assert prompt.before_clip == plain.before_clip
    assert prompt.after_clip.count(BOS) == plain.after_clip.count(BOS)
    assert not {EOS, UNK} & {*prompt.after_clip}
    assert question in readable(tokenizer, prompt.after_clip)


def test_with_parity_a_question_may_hold_special_tokens(tokenizer: Tokenizer) -> None:
    ids = encode_prompt(PromptOptions(parity="reference"), "a</s><s><unk>", tokenizer).after_clip
    assert [token for token in ids if token in (EOS, BOS, UNK)] == [BOS, EOS, BOS, UNK]


@pytest.mark.parametrize(
    ("layout", "hole"),
    [("chat", "<VideoHere>"), ("training", "<VideoHere>"), ("training", "<FeatureHere>")],
)
def test_with_parity_a_question_may_not_hold_a_hole(
    tokenizer: Tokenizer, layout: LayoutName, hole: str
) -> None:
    with pytest.raises(InvalidRequestError, match=hole):
        encode_prompt(PromptOptions(layout, parity="reference"), f"a {hole}", tokenizer)


@pytest.mark.parametrize("parity", ["default", "reference"])
def test_an_evaluation_question_ends_in_one_space(tokenizer: Tokenizer, parity: Parity) -> None:
    options = PromptOptions("evaluation", parity=parity)
    assert encode_prompt(options, "a", tokenizer) == encode_prompt(options, "a ", tokenizer)
    assert encode_prompt(options, "a", tokenizer) != encode_prompt(options, "a  ", tokenizer)


@pytest.mark.parametrize(
    ("layout", "text", "answer"),
    [
        ("chat", " happy ### and more", "happy"),
        ("chat", "x Assistant: y Assistant: sad", "sad"),
        ("chat", "a</s><s>[/INST]", "a</s><s>[/INST]"),
        ("evaluation", "[/INST] a<s>b </s> c", "ab"),
        ("evaluation", "### Assistant: a", "### Assistant: a"),
    ],
)
def test_the_original_returns_a_part_of_the_text(
    layout: LayoutName, text: str, answer: str
) -> None:
    assert LAYOUTS[layout].trim(text) == answer
