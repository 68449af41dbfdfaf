"""What vLLM gives back of one request, as ours: token counts, scores, times, and the text of a stream."""

from collections.abc import Sequence
from typing import Any

from serve_app.prompt import LAYOUTS
from serve_app.tokenizer import Tokenizer
from serve_app.types import PromptOptions, TokenScore, Usage


class StreamTrim:
    """Deltas of the stripped text: no white space at its start, and at its end only once more follows."""

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
    """The whole answer's text; with `parity: reference` what the original makes of its tokens."""
    if options.parity != "reference":
        return str(completion.text).strip()
    text = LAYOUTS[options.layout].trim(tokenizer.decode(completion.token_ids))
    for each in stop:  # which vLLM leaves out of its own text alone
        text = text.partition(each)[0]
    return text


def token_scores(completion: Any, num_logprobs: int | None) -> tuple[TokenScore, ...]:
    """Of each token, where they were asked for, with the most probable ones in its place."""
    if num_logprobs is None or not completion.logprobs:
        return ()
    scores = []
    for token_id, candidates in zip(completion.token_ids, completion.logprobs, strict=False):
        # vLLM adds the token that was drawn, wherever it ranks.
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
    """Engine stages of one request: waiting to be scheduled, first token, all tokens."""
    return {
        "queue": (metrics.scheduled_ts - metrics.queued_ts) * 1e3,
        "first_token": metrics.first_token_latency * 1e3,
        "total": total_ms,
    }
