"""What vLLM is asked for in one request: its SamplingParams for an answer, and for scores of tokens."""

from typing import Any

from serve_app.errors import InvalidRequestError
from serve_app.model.arguments import REPETITION_PENALTY
from serve_app.types import Sampling


def sampling_params(sampling: Sampling) -> Any:
    return _final_only(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        extra_args={REPETITION_PENALTY: sampling.repetition_penalty},
    )


def scoring_params(token_ids: list[int]) -> Any:
    """The log-probabilities of these tokens as the next one, before any penalty or temperature."""
    return _final_only(temperature=0, max_tokens=1, logprob_token_ids=token_ids)


def _final_only(**params: Any) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    try:
        return SamplingParams(**params, output_kind=RequestOutputKind.FINAL_ONLY)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
