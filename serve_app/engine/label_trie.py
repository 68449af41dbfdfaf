"""The trie of the labels' tokens: which next-token probabilities score every label as a whole."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve_app.errors import InvalidRequestError
from serve_app.tokenizer import Tokenizer
from serve_app.types import Tokenization

MIN_LABELS, MAX_LABELS = 2, 64
MAX_LABEL_CHARS = 100
MAX_PREFIXES = 256  # each is a request to the engine

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelTrie:
    """The tokens of each label, and the tokens that may follow each of their prefixes."""

    sequences: Mapping[str, Tokens]

    @property
    def next_tokens_by_prefix(self) -> dict[Tokens, list[int]]:
        """Each distinct prefix of a label, and the tokens that follow it. The empty prefix comes first."""
        next_tokens: dict[Tokens, list[int]] = {(): []}
        for tokens in self.sequences.values():
            for depth, token in enumerate(tokens):
                following = next_tokens.setdefault(tokens[:depth], [])
                if token not in following:
                    following.append(token)
        return next_tokens

    @property
    def longest(self) -> int:
        """Number of tokens of the longest label."""
        return max(map(len, self.sequences.values()))

    def log_probability(self, label: str, scored: Mapping[Tokens, Mapping[int, float]]) -> float:
        """Log-probability of a whole label.

        Args:
            scored: log-probabilities of the next tokens, by prefix.
        """
        tokens = self.sequences[label]
        return sum(scored[tokens[:depth]][token] for depth, token in enumerate(tokens))


def label_trie(
    labels: Sequence[str], tokenizer: Tokenizer, tokenization: Tokenization
) -> LabelTrie:
    """The trie of these labels. Each label includes the end of the answer: the model was trained to end
    after it, and without the end "surprise" would also count what goes on to "surprised".

    Raises:
        InvalidRequestError: too few or too many labels, an empty or over-long one, two with the same
            tokens, or too many distinct prefixes.
    """
    if not MIN_LABELS <= len(labels) <= MAX_LABELS:
        raise InvalidRequestError(
            f"{len(labels)} labels; at least {MIN_LABELS}, at most {MAX_LABELS}"
        )
    for label in labels:
        if not label.strip() or len(label) > MAX_LABEL_CHARS:
            raise InvalidRequestError(
                f"label {label[:40]!r} has {len(label)} characters; 1 to {MAX_LABEL_CHARS}"
            )
    sequences = {
        label: (*tokenizer.encode([label], tokenization), tokenizer.eos_id) for label in labels
    }
    if len(set(sequences.values())) < len(labels):
        raise InvalidRequestError("two labels are the same to the model")
    trie = LabelTrie(sequences)
    num_prefixes = len(trie.next_tokens_by_prefix)
    if num_prefixes > MAX_PREFIXES:
        raise InvalidRequestError(
            f"the labels take {num_prefixes} steps to score, one for each distinct prefix of a label; "
            f"at most {MAX_PREFIXES}: use fewer or shorter ones"
        )
    return trie


def normalise(log_probabilities: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """Probabilities that add up to 1 over the labels, and their mass: what the model puts on all of them."""
    highest = max(log_probabilities.values())
    weights = {label: math.exp(value - highest) for label, value in log_probabilities.items()}
    total = sum(weights.values())
    return {label: w / total for label, w in weights.items()}, total * math.exp(highest)
