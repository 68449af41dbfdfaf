"""The metrics against the published confusion matrix, and against cases that can be counted by hand."""

import numpy as np
import pytest

from serve_app.evaluation.calibration import calibrate
from serve_app.evaluation.scores import OUTSIDE, Labelled, outside_answers, score_labels

# The original's result file for MER2023-SEMI (checkpoints/save_checkpoint/stage2/result/MER2023.txt).
MER2023_LABELS = ("angry", "happy", "neutral", "sad", "surprise", "worried")
MER2023_MATRIX = (
    (179, 1, 2, 1, 0, 0),
    (2, 152, 7, 4, 3, 1),
    (10, 10, 134, 6, 2, 4),
    (2, 2, 1, 250, 0, 2),
    (1, 0, 3, 1, 6, 3),
    (4, 1, 3, 2, 1, 34),
)


@pytest.fixture(scope="module")
def mer2023() -> Labelled:
    pairs = [
        (true, answered)
        for true, row in zip(MER2023_LABELS, MER2023_MATRIX, strict=True)
        for answered, count in zip(MER2023_LABELS, row, strict=True)
        for _ in range(count)
    ]
    return Labelled([t for t, _ in pairs], [a for _, a in pairs], MER2023_LABELS)


def test_the_published_matrix_gives_the_published_scores(mer2023: Labelled) -> None:
    scores = score_labels(mer2023)
    headline = {name: each["value"] for name, each in scores["headline"].items()}
    assert scores["num_scored"] == 834
    assert headline["accuracy"] == pytest.approx(0.90528, abs=5e-6)
    assert headline["weighted_precision"] == pytest.approx(0.90363, abs=5e-6)
    assert headline["weighted_f1"] == pytest.approx(0.90358, abs=5e-6)
    assert headline["macro_f1"] == pytest.approx(0.8134, abs=5e-5)
    assert headline["uar"] == pytest.approx(0.8069, abs=5e-5)
    assert scores["by_label"]["surprise"]["recall"] == pytest.approx(0.429, abs=5e-4)
    assert scores["by_label"]["worried"]["support"] == 45
    assert scores["confusion"]["counts"] == [list(row) for row in MER2023_MATRIX]
    assert scores["confusion"]["columns_answered"] == list(MER2023_LABELS)


def test_intervals_hold_the_value_and_come_from_the_seed(mer2023: Labelled) -> None:
    first, again, other = (score_labels(mer2023, seed)["headline"] for seed in (1, 1, 2))
    assert first == again != other
    for each in first.values():
        low, high = each["interval_95"]
        assert low < each["value"] < high
    # The standard error of a share of 834 is 0.0101; a bootstrap must find about that.
    low, high = first["accuracy"]["interval_95"]
    assert high - low == pytest.approx(2 * 1.96 * 0.01014, rel=0.12)


def test_answers_outside_the_set_are_wrong_and_have_a_column() -> None:
    labelled = Labelled(["a", "a", "b", "b"], ["a", OUTSIDE, "b", "b"], ("a", "b", "c"))
    scores = score_labels(labelled)
    assert scores["headline"]["accuracy"]["value"] == 0.75
    assert scores["headline"]["uar"]["value"] == 0.75  # of a and b: c does not occur
    assert scores["confusion"]["columns_answered"] == ["a", "b", "c", OUTSIDE]
    assert scores["confusion"]["counts"] == [[1, 0, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0]]


def test_answers_outside_the_set_are_counted_and_shown() -> None:
    texts = ["happy", "Happy.", "glee", "glee"]
    outside = outside_answers(texts, ["happy", None, None, None])
    assert outside == {"count": 3, "share": 0.75, "most_frequent": {"glee": 2, "Happy.": 1}}


def test_a_calibrated_model_has_no_calibration_error_and_an_overconfident_one_has() -> None:
    random = np.random.default_rng(0)
    truth = ["a" if right else "b" for right in random.random(20_000) < 0.7]
    honest = calibrate(truth, [{"a": 0.7, "b": 0.3}] * len(truth))
    boastful = calibrate(truth, [{"a": 0.99, "b": 0.01}] * len(truth))
    assert honest is not None and boastful is not None
    assert honest["ece"] < 0.01
    assert boastful["ece"] == pytest.approx(0.29, abs=0.01)
    (full,) = [each for each in boastful["bins"] if each["count"]]
    assert (full["count"], full["to"]) == (20_000, 1.0)
    assert full["accuracy"] == pytest.approx(0.7, abs=0.01)
    assert honest["negative_log_likelihood"] == pytest.approx(0.611, abs=0.01)


def test_without_probabilities_there_is_no_calibration() -> None:
    assert calibrate([], []) is None
