"""Turns vLLM's outputs of one request into our types: text, token counts, scores and timings."""

from collections.abc import Sequence
from typing import Any

from serve_app.prompt import LAYOUTS
from serve_app.tokenizer import Tokenizer
from serve_app.types import PromptOptions, TokenScore, Usage


class StreamTrim:
    """Strips a streamed text: drops leading white space, and holds white space back until text follows it."""

    def __init__(self) -> None:
        self._has_begun = False
        self._held = ""

    def __call__(self, delta: str) -> str:
        text = self._held + delta
        if not self._has_begun:
            text = text.lstrip()
        self._has_begun = self._has_begun or bool(text)
        said = text.rstrip()
        self._held = text[len(said) :]
        return said


def answer_text(
    completion: Any, options: PromptOptions, stop: Sequence[str], tokenizer: Tokenizer
) -> str:
    """The whole answer's text; with `parity: reference` as the original decodes and trims it."""
    if options.parity != "reference":
        return str(completion.text).strip()
    text = LAYOUTS[options.layout].trim(tokenizer.decode(completion.token_ids))
    for each in stop:  # vLLM removes stop strings from its own text only
        text = text.partition(each)[0]
    return text


def token_scores(completion: Any, num_logprobs: int | None) -> tuple[TokenScore, ...]:
    """Scores of the answer's tokens, each with the most probable ones at its position, if asked for."""
    if num_logprobs is None or not completion.logprobs:
        return ()
    scores = []
    for token_id, candidates in zip(completion.token_ids, completion.logprobs, strict=False):
        # vLLM adds the sampled token, whatever its rank.
        ranked = sorted(candidates.values(), key=lambda each: -each.logprob)[:num_logprobs]
        top = tuple((each.decoded_token or "", each.logprob) for each in ranked)
        chosen = candidates[token_id]
        scores.append(TokenScore(chosen.decoded_token or "", chosen.logprob, top))
    return tuple(scores)


def usage(outputs: Sequence[Any]) -> Usage:
    return Usage(
        prompt_tokens=sum(len(output.prompt_token_ids) for output in outputs),
        completion_tokens=sum(len(output.outputs[0].token_ids) for output in outputs),
        cached_tokens=sum(output.num_cached_tokens or 0 for output in outputs),
    )


def engine_timings_ms(metrics: Any, total_ms: float) -> dict[str, float]:
    """Timings of one request in the engine: until it was scheduled, its first and its last token."""
    return {
        "queue": (metrics.scheduled_ts - metrics.queued_ts) * 1e3,
        "first_token": metrics.first_token_latency * 1e3,
        "total": total_ms,
    }
