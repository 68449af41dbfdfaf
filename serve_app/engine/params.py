"""Builds vLLM's SamplingParams for an answer, and for scores of tokens."""

from typing import Any

from serve_app.errors import InvalidRequestError
from serve_app.model.arguments import REPETITION_PENALTY
from serve_app.types import Sampling


def sampling_params(sampling: Sampling, is_stream: bool = False) -> Any:
    """SamplingParams for an answer. Raises InvalidRequestError: vLLM refuses a value or the constraint."""
    return _params(
        is_stream,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        extra_args={REPETITION_PENALTY: sampling.repetition_penalty},
        stop=list(sampling.stop) or None,
        logprobs=sampling.num_logprobs,
        structured_outputs=_structured(sampling),
    )


def scoring_params(token_ids: list[int]) -> Any:
    """SamplingParams for the log-probabilities of these next tokens, before any penalty or temperature."""
    return _params(temperature=0, max_tokens=1, logprob_token_ids=token_ids)


def _structured(sampling: Sampling) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    if sampling.constraint is None:
        return None
    try:
        return StructuredOutputsParams(**sampling.constraint)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"structured outputs: {error}") from error


def _params(is_stream: bool = False, **params: Any) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    kind = RequestOutputKind.DELTA if is_stream else RequestOutputKind.FINAL_ONLY
    try:
        return SamplingParams(**params, output_kind=kind)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
