"""Labels as continuations of a prompt: what must be asked of a model to score each as a whole."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve_app.errors import InvalidRequestError
from serve_app.tokenizer import Tokenizer
from serve_app.types import Tokenization

MIN_LABELS, MAX_LABELS = 2, 64
MAX_LABEL_CHARS = 100
MAX_BRANCHES = 256  # each is a request to the engine

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelTree:
    """The tokens of some labels, and after each beginning they share, what may come next."""

    sequences: Mapping[str, Tokens]

    @property
    def branches(self) -> dict[Tokens, list[int]]:
        """Beginning of a label -> the tokens that follow it in some label. The first is the empty one."""
        branches: dict[Tokens, list[int]] = {(): []}
        for tokens in self.sequences.values():
            for depth, token in enumerate(tokens):
                following = branches.setdefault(tokens[:depth], [])
                if token not in following:
                    following.append(token)
        return branches

    @property
    def longest(self) -> int:
        return max(map(len, self.sequences.values()))

    def log_probability(self, label: str, scored: Mapping[Tokens, Mapping[int, float]]) -> float:
        """Of a whole label, given each branch's log-probabilities."""
        tokens = self.sequences[label]
        return sum(scored[tokens[:depth]][token] for depth, token in enumerate(tokens))


def label_tree(
    labels: Sequence[str], tokenizer: Tokenizer, tokenization: Tokenization
) -> LabelTree:
    """Each label up to the end of the answer, which is how the model was taught to give it: without the end
    "surprise" would also count what goes on to "surprised".

    Raises:
        InvalidRequestError: too few or too many labels, an empty or over-long one, or two alike.
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
    tree = LabelTree(sequences)
    if len(tree.branches) > MAX_BRANCHES:
        raise InvalidRequestError(
            f"the labels take {len(tree.branches)} steps to score, one for each beginning of a label; "
            f"at most {MAX_BRANCHES}: use fewer or shorter ones"
        )
    return tree


def share_out(log_probabilities: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """Probabilities among the labels alone, and their mass: what the model puts on all of them together."""
    highest = max(log_probabilities.values())
    weights = {label: math.exp(value - highest) for label, value in log_probabilities.items()}
    total = sum(weights.values())
    return {label: w / total for label, w in weights.items()}, total * math.exp(highest)
