"""Label scores: scikit-learn's metrics with bootstrap intervals, and the answers outside the label set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

Codes = npt.NDArray[np.int64]  # (num_clips,) indices into a list of labels
Floats = npt.NDArray[np.float64]

OUTSIDE = "(other)"  # the column of answers that name no label of the set
NUM_RESAMPLES = 1000
INTERVAL_PERCENT = (2.5, 97.5)
MAX_OUTSIDE_EXAMPLES = 20

HEADLINES = ("weighted_f1", "macro_f1", "uar", "accuracy", "weighted_precision")


@dataclass(frozen=True, slots=True)
class Labelled:
    """True labels and the answers that were given, row by row."""

    truth: list[str]
    answers: list[str]  # each one of the labels, or OUTSIDE
    labels: tuple[str, ...]  # the label set, in the order of the tables


def score_labels(labelled: Labelled, seed: int = 0) -> dict[str, Any]:
    """Headline scores with 95 % intervals, scores by label, and the confusion matrix.

    Weighted F1 is the protocols' primary score. UAR is the mean recall of the labels, WAR the accuracy.
    """
    columns = [*labelled.labels, *([OUTSIDE] if OUTSIDE in labelled.answers else [])]
    truth, answers = (
        np.array([columns.index(label) for label in labels])
        for labels in (labelled.truth, labelled.answers)
    )
    by_label = _by_label(truth, answers, len(labelled.labels))
    intervals = _intervals(truth, answers, len(labelled.labels), seed)
    counts = confusion_matrix(truth, answers, labels=range(len(columns)))
    return {
        "num_scored": len(labelled.truth),
        "headline": {
            name: {"value": value, "interval_95": intervals[name]}
            for name, value in _headline(truth, answers, by_label).items()
        },
        "by_label": {
            label: dict(zip(("precision", "recall", "f1", "support"), values, strict=True))
            for label, values in zip(labelled.labels, by_label.T.tolist(), strict=True)
        },
        "confusion": {
            "rows_true": list(labelled.labels),
            "columns_answered": columns,
            "counts": counts[: len(labelled.labels)].tolist(),
        },
    }


def outside_answers(texts: Sequence[str], read: Sequence[str | None]) -> dict[str, Any]:
    """How many answers named no label of the set, and which were the most frequent."""
    outside = Counter(t for t, label in zip(texts, read, strict=True) if label is None)
    return {
        "count": outside.total(),
        "share": outside.total() / max(1, len(texts)),
        "most_frequent": dict(outside.most_common(MAX_OUTSIDE_EXAMPLES)),
    }


def _by_label(truth: Codes, answers: Codes, num_labels: int) -> Floats:
    """(4, num_labels): precision, recall, F1 and support."""
    return np.array(
        precision_recall_fscore_support(
            truth, answers, labels=range(num_labels), average=None, zero_division=0
        )
    )


def _headline(truth: Codes, answers: Codes, by_label: Floats) -> dict[str, float]:
    """Averages over the labels that occur in the truth; the others have no recall."""
    precision, recall, f1, support = by_label[:, by_label[3] > 0]
    values = (
        np.average(f1, weights=support),
        f1.mean(),
        recall.mean(),
        accuracy_score(truth, answers),
        np.average(precision, weights=support),
    )
    return {name: float(value) for name, value in zip(HEADLINES, values, strict=True)}


def _intervals(truth: Codes, answers: Codes, num_labels: int, seed: int) -> dict[str, list[float]]:
    """Bootstrap intervals: percentiles over resamples of the clips."""
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in HEADLINES}
    for rows in random.integers(len(truth), size=(NUM_RESAMPLES, len(truth))):
        resample = truth[rows], answers[rows]
        by_label = _by_label(*resample, num_labels)
        for name, value in _headline(*resample, by_label).items():
            drawn[name].append(value)
    return {
        name: [float(edge) for edge in np.percentile(values, INTERVAL_PERCENT)]
        for name, values in drawn.items()
    }
