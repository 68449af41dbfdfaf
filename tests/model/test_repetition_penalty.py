"""The penalty counts BOS and generated tokens, each once, in the row where vLLM keeps the request now."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

from serve_app.model.arguments import REPETITION_PENALTY
from serve_app.model.repetition_penalty import GeneratedRepetitionPenalty

BOS = 1
VOCAB_SIZE = 6
PROMPT = [BOS, 3, 4]


@pytest.fixture
def processor() -> GeneratedRepetitionPenalty:
    text_config = SimpleNamespace(bos_token_id=BOS, vocab_size=VOCAB_SIZE)
    hf_config = SimpleNamespace(text_config=text_config)
    config: Any = SimpleNamespace(
        model_config=SimpleNamespace(hf_config=hf_config),
        scheduler_config=SimpleNamespace(max_num_seqs=3),
    )
    return GeneratedRepetitionPenalty(config, torch.device("cpu"), is_pin_memory=False)


def with_penalty(penalty: float | None) -> SamplingParams:
    return SamplingParams(extra_args=None if penalty is None else {REPETITION_PENALTY: penalty})


def update(size: int, **changes: Any) -> BatchUpdate:
    return BatchUpdate(size, **{"removed": (), "added": (), "moved": ()} | changes)


def test_it_counts_bos_and_the_answer_but_not_the_prompt(
    processor: GeneratedRepetitionPenalty,
) -> None:
    generated: list[int] = []
    processor.update_state(update(1, added=[(0, with_penalty(2), PROMPT, generated)]))
    assert processor.apply(torch.full((1, 6), 4.0)).tolist() == [[4, 2, 4, 4, 4, 4]]
    # vLLM appends to the list it handed over, at times before it knows what.
    generated += [5, 5, -1]
    processor.update_state(None)
    assert processor.apply(torch.full((1, 6), 4.0)).tolist() == [[4, 2, 4, 4, 4, 2]]
    assert processor.apply(torch.full((1, 6), -4.0)).tolist() == [[-4, -8, -4, -4, -4, -8]]
    assert not processor.is_argmax_invariant()


def test_it_follows_requests_through_the_batch(processor: GeneratedRepetitionPenalty) -> None:
    added = [(row, with_penalty(p), PROMPT, [2]) for row, p in enumerate((2.0, 1.0, 4.0))]
    processor.update_state(update(3, added=added))
    assert processor.apply(torch.full((3, VOCAB_SIZE), 4.0))[:, 2].tolist() == [2, 4, 1]
    swap = (0, 2, MoveDirectionality.SWAP)
    processor.update_state(update(3, moved=[swap]))
    assert processor.apply(torch.full((3, VOCAB_SIZE), 4.0))[:, 2].tolist() == [1, 4, 2]
    processor.update_state(
        update(2, removed=[0], moved=[(2, 0, MoveDirectionality.UNIDIRECTIONAL)])
    )
    assert processor.apply(torch.full((2, VOCAB_SIZE), 4.0))[:, 2].tolist() == [2, 4]
    processor.update_state(update(1, added=[(0, with_penalty(None), PROMPT, [2])]))
    assert processor.apply(torch.full((1, VOCAB_SIZE), 4.0)).tolist() == [[4] * VOCAB_SIZE]


@pytest.mark.parametrize("penalty", [0, -1, 101, float("nan")])
def test_a_penalty_that_makes_no_sense_is_refused(penalty: float) -> None:
    with pytest.raises(ValueError, match=f"{REPETITION_PENALTY} is .*in 0.01 to 100"):
        GeneratedRepetitionPenalty.validate_params(with_penalty(penalty))
