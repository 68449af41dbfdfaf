"""Label probabilities by the real engine: equal to a plain forward pass over every whole label."""

import math
from pathlib import Path

import pytest
from engine.reference import Reference

from serve_app.emotions import NINE
from serve_app.engine.engine import Engine
from serve_app.errors import InvalidRequestError, QuestionTooLongError
from serve_app.tokenizer import Tokenizer
from serve_app.types import NO_SOURCE, AnswerRequest, Clip, Sampling, ScoreRequest

QUESTION = "[emotion] What is the emotion expressed in this video?"
LABEL_SETS = {
    "the nine": list(NINE),
    "long ones with a common prefix": ["deeply moved", "deeply hurt", "not moved at all"],
    "one is a prefix of another": ["sad", "sad and tired", "happy"],
}


def ask(labels: list[str], question: str = QUESTION) -> ScoreRequest:
    return ScoreRequest(NO_SOURCE, question, tuple(labels))


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=LABEL_SETS)
async def test_probabilities_equal_brute_force(
    engine: Engine, tiny_checkpoint: Path, decoded_clips: list[Clip], labels: list[str]
) -> None:
    reference, tokenizer = Reference(tiny_checkpoint), Tokenizer(tiny_checkpoint)
    for clip in decoded_clips[:2]:
        one_token = Sampling(temperature=0, max_tokens=1)
        answer = await engine.answer(clip, AnswerRequest(NO_SOURCE, QUESTION, sampling=one_token))
        expected = {
            label: math.exp(
                reference.log_probability(
                    answer.prompt_token_ids,
                    clip,
                    [*tokenizer.encode([label], "4.30"), tokenizer.eos_id],
                )
            )
            for label in labels
        }
        mass = sum(expected.values())
        scores = await engine.score(clip, ask(labels))
        assert list(scores.probabilities) == labels
        assert scores.label_mass == pytest.approx(mass, rel=1e-3)
        for label, value in scores.probabilities.items():
            assert value == pytest.approx(expected[label] / mass, abs=1e-4)
        assert sum(scores.probabilities.values()) == pytest.approx(1)


async def test_only_the_first_step_computes_the_prompt(
    engine: Engine, decoded_clips: list[Clip]
) -> None:
    labels = LABEL_SETS["long ones with a common prefix"]
    scores = await engine.score(decoded_clips[3], ask(labels, "asked only here?"))
    num_steps = scores.usage.completion_tokens
    assert num_steps > 3
    per_step = scores.usage.prompt_tokens / num_steps
    assert scores.usage.cached_tokens > 0.8 * per_step * (num_steps - 1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["happy"], "1 labels; at least 2"),
        (["happy", " "], "label ' ' has 1 characters"),
        (["happy", "happy"], "the same"),
        ([str(number) for number in range(65)], "65 labels; at least 2, at most 64"),
        ([f"{number} {'label ' * 14}" for number in range(64)], "steps to score.* at most 256"),
    ],
)
async def test_unusable_labels_are_refused(
    engine: Engine, decoded_clips: list[Clip], labels: list[str], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        await engine.score(decoded_clips[0], ask(labels))


async def test_a_label_must_fit_behind_the_question(
    engine: Engine, decoded_clips: list[Clip]
) -> None:
    with pytest.raises(QuestionTooLongError, match="at most 1024"):
        await engine.score(decoded_clips[0], ask(["happy", "sad"], "word " * 800))
