"""Calibration: is a label to which the model gives 80 % right in 80 % of the cases?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NUM_BINS = 15  # of equal width over 0..1, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"


def calibrate(
    truth: Sequence[str], probabilities: Sequence[Mapping[str, float]]
) -> dict[str, Any] | None:
    """Expected calibration error (ECE) of the most probable label, and its bins; None if there are no rows.

    ECE is the mean over all rows of |accuracy - mean confidence| of the row's bin.
    """
    if not probabilities:
        return None
    best = [max(each.items(), key=lambda item: item[1]) for each in probabilities]
    confidence = np.array([value for _, value in best])
    right = np.array([label == t for (label, _), t in zip(best, truth, strict=True)])
    bin_of = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    bins = [
        _bin(index, confidence[bin_of == index], right[bin_of == index])
        for index in range(NUM_BINS)
    ]
    gaps = [b["count"] * abs(b["accuracy"] - b["mean_confidence"]) for b in bins if b["count"]]
    negative_logs = [-np.log(max(p[t], 1e-12)) for t, p in zip(truth, probabilities, strict=True)]
    return {
        "ece": float(sum(gaps) / len(truth)),
        "num_bins": NUM_BINS,
        "num_rows": len(truth),
        "accuracy_of_most_probable": float(right.mean()),
        "mean_confidence": float(confidence.mean()),
        "negative_log_likelihood": float(np.mean(negative_logs)),
        "bins": bins,
    }


def _bin(
    index: int, confidence: "np.ndarray[Any, Any]", right: "np.ndarray[Any, Any]"
) -> dict[str, Any]:
    count = len(confidence)
    return {
        "from": index / NUM_BINS,
        "to": (index + 1) / NUM_BINS,
        "count": count,
        "accuracy": float(right.mean()) if count else None,
        "mean_confidence": float(confidence.mean()) if count else None,
    }
