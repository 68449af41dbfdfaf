"""Scores of labels: scikit-learn's metrics, with bootstrap intervals and what was answered beside the set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix

OUTSIDE = "(other)"  # the column of answers that name no label of the set
NUM_RESAMPLES = 1000
INTERVAL_PERCENT = (2.5, 97.5)
MAX_OUTSIDE_EXAMPLES = 20

HEADLINES = ("weighted_f1", "macro_f1", "uar", "accuracy", "weighted_precision")


@dataclass(frozen=True, slots=True)
class Labelled:
    """True labels and the answers that were given, row by row."""

    truth: list[str]
    answers: list[str]  # of the labels, or OUTSIDE
    labels: tuple[str, ...]  # the set, in the order of the tables

    @property
    def supported(self) -> list[str]:
        """The labels that occur in the truth: averages over labels take no other in."""
        return [label for label in self.labels if label in set(self.truth)]


def score_labels(labelled: Labelled, seed: int = 0) -> dict[str, Any]:
    """Headline scores with 95 % intervals, scores by label, and the confusion matrix.

    Weighted F1 is the protocols' primary score. UAR is the mean recall of the labels, WAR the accuracy.
    """
    report = _report(labelled)
    columns = [*labelled.labels, *([OUTSIDE] if OUTSIDE in labelled.answers else [])]
    counts = confusion_matrix(labelled.truth, labelled.answers, labels=columns)
    intervals = _intervals(labelled, seed)
    return {
        "num_scored": len(labelled.truth),
        "headline": {
            name: {"value": value, "interval_95": intervals[name]}
            for name, value in _headlines(labelled, report).items()
        },
        "by_label": {
            label: {
                name.replace("f1-score", "f1"): float(value)
                for name, value in report[label].items()
            }
            for label in labelled.supported
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


def _report(labelled: Labelled) -> dict[str, Any]:
    report: dict[str, Any] = classification_report(
        labelled.truth,
        labelled.answers,
        labels=labelled.supported,
        output_dict=True,
        zero_division=0,
    )
    return report


def _headlines(labelled: Labelled, report: dict[str, Any]) -> dict[str, float]:
    hits = [t == a for t, a in zip(labelled.truth, labelled.answers, strict=True)]
    weighted, macro = report["weighted avg"], report["macro avg"]
    values = (
        weighted["f1-score"],
        macro["f1-score"],
        macro["recall"],
        np.mean(hits),
        weighted["precision"],
    )
    return {name: float(value) for name, value in zip(HEADLINES, values, strict=True)}


def _intervals(labelled: Labelled, seed: int) -> dict[str, list[float]]:
    """Percentiles over resamples of the clips. A label that a resample misses drops out of its averages."""
    random = np.random.default_rng(seed)
    count = len(labelled.truth)
    drawn: dict[str, list[float]] = {name: [] for name in HEADLINES}
    for rows in random.integers(count, size=(NUM_RESAMPLES, count)):
        resample = Labelled(
            [labelled.truth[row] for row in rows],
            [labelled.answers[row] for row in rows],
            labelled.labels,
        )
        for name, value in _headlines(resample, _report(resample)).items():
            drawn[name].append(value)
    return {
        name: [float(edge) for edge in np.percentile(values, INTERVAL_PERCENT)]
        for name, values in drawn.items()
    }
