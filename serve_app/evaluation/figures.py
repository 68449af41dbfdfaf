"""Draws the figures of a report as PNG files: confusion matrix and reliability diagram."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

DPI = 120
BLUE = "#2b6cb0"


def draw_confusion(confusion: Mapping[str, Any], title: str, path: Path) -> None:
    """Draws the confusion matrix: each row's shares as shades, the counts as numbers."""
    counts = np.array(confusion["counts"])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    rows, columns = confusion["rows_true"], confusion["columns_answered"]
    figure = Figure(
        figsize=(1.8 + 0.75 * len(columns), 1.6 + 0.6 * len(rows)), layout="constrained"
    )
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="answered", ylabel="true", title=title)
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the row")
    figure.savefig(path, dpi=DPI)


def draw_reliability(calibration: Mapping[str, Any], title: str, path: Path) -> None:
    """Draws the reliability diagram: accuracy over confidence in each bin, and the number of clips in it."""
    bins = [each for each in calibration["bins"] if each["count"]]
    width = 1 / calibration["num_bins"]
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lefts = [each["from"] for each in bins]
    above.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    above.bar(
        lefts,
        [each["accuracy"] for each in bins],
        width,
        align="edge",
        color=BLUE,
        edgecolor="white",
    )
    above.plot(
        [each["mean_confidence"] for each in bins],
        [each["accuracy"] for each in bins],
        "o",
        color="black",
    )
    above.set(
        ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=f"{title}: ECE {calibration['ece']:.3f}"
    )
    below.bar(
        lefts,
        [each["count"] for each in bins],
        width,
        align="edge",
        color="grey",
        edgecolor="white",
    )
    below.set(xlabel="confidence in the most probable label", ylabel="clips")
    figure.savefig(path, dpi=DPI)
