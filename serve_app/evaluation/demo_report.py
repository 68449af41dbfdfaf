"""The report on the demonstration checkpoint: rows of cases with limits, as its model card shows them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve_app.demo.labels import LABELS
from serve_app.evaluation.cases import Case, Outcome
from serve_app.evaluation.protocols import Protocol
from serve_app.evaluation.report import counts, label_report

TOLERANCE = 0.05  # accepted distance of a score from the best that the design allows

PROTOCOL = Protocol(
    name="demo",
    asked=LABELS,
    scored=LABELS,
    parity="default",
    sentence_column="sentence",
    is_exact=True,
    notes=("drawn faces and synthetic voices: says nothing about any other checkpoint or clip",),
)

Check = Callable[[str], bool]
"""Whether an answer is right."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: cases, a check of each answer, and the expected share of right answers."""

    name: str
    cases: Sequence[Case]
    checks: Sequence[Check]
    at_least: float | None = None
    chances: Sequence[float] | None = None  # of a right answer, where it must be guessed

    def result(self, texts: dict[str, str]) -> dict[str, Any]:
        """The row's score, given answers by case id. A case without an answer counts as wrong."""
        pairs = zip(self.cases, self.checks, strict=True)
        right = [case.id in texts and check(texts[case.id]) for case, check in pairs]
        score = float(np.mean(right))
        result: dict[str, Any] = {"test": self.name, "num_cases": len(right), "score": score}
        if self.at_least is not None:
            return result | {"at_least": self.at_least, "passed": score >= self.at_least}
        if self.chances is None:
            return result
        chances = np.array(self.chances)
        ideal, tolerance = float(chances.mean()), _tolerance(chances)
        # The margin keeps a score exactly on the edge inside, whatever its rounding.
        passed = abs(score - ideal) <= tolerance + 1e-9
        return result | {"ideal": ideal, "tolerance": tolerance, "passed": passed}


def _tolerance(chances: "np.ndarray[Any, Any]") -> float:
    """TOLERANCE or, if larger because there are few guesses, two standard errors of their mean."""
    error = np.sqrt((chances * (1 - chances)).sum()) / len(chances)
    return float(max(TOLERANCE, 2 * error))


def unique_cases(rows: Sequence[Row]) -> list[Case]:
    """The cases of all rows, each once: several rows may check the same answer in different ways."""
    return list({case.id: case for row in rows for case in row.cases}.values())


def demo_report(rows: Sequence[Row], outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """The label scores of the first row's cases, and every row's result.

    Raises:
        InvalidRequestError: no case of the first row was answered.
    """
    texts = {outcome.case.id: outcome.text for outcome in outcomes if outcome.is_answered}
    first = {case.id for case in rows[0].cases}
    main = [outcome for outcome in outcomes if outcome.case.id in first]
    return {
        **label_report(PROTOCOL, main, "default"),
        **counts(outcomes),
        "num_clips": len(main),
        "seed": seed,
        "tests": [row.result(texts) for row in rows],
    }


def missed_limits(report: dict[str, Any]) -> list[str]:
    """The names of the rows that missed their limit."""
    return [test["test"] for test in report["tests"] if not test.get("passed", True)]


def rows_text(report: dict[str, Any]) -> str:
    """The rows as text for the terminal."""
    return "\n".join(map(_test_line, report["tests"]))


def limit_text(test: Mapping[str, Any]) -> str:
    """The limit of a row as text."""
    if "at_least" in test:
        return f"at least {test['at_least']:.2f}"
    return f"{test['ideal']:.3f} ± {test['tolerance']:.3f}" if "ideal" in test else ""


def _test_line(test: dict[str, Any]) -> str:
    verdict = ("ok" if test["passed"] else "MISSED") if "passed" in test else ""
    score = f"{test['score']:.3f} of {test['num_cases']}"
    return f"  {test['test']:<58} {score:<14} {limit_text(test):<16} {verdict}"
