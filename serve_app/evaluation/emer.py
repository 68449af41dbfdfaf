"""EMER: free-text descriptions of what a person expresses and why, scored by a judge if one is given."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve_app.emotions import REASON_QUESTIONS, with_sentence
from serve_app.errors import InvalidRequestError
from serve_app.evaluation.annotations import DESCRIPTION_COLUMNS, SENTENCE_COLUMNS, read_texts
from serve_app.evaluation.cases import Case, Outcome
from serve_app.evaluation.dataset import Files, feature_files, find_clips, read_sentences
from serve_app.evaluation.judge import Judge, judge_all
from serve_app.evaluation.protocols import MER2023_FEATURES, SAMPLING, request_fields
from serve_app.evaluation.report import (
    answered_ones,
    counts,
    general_notes,
    summarise_provenance,
)
from serve_app.evaluation.store import KeyedLines
from serve_app.types import Parity

MIN_ROTATED = 2  # clips; the next clip after a single one would be itself
NOTES = (
    "the published figures' judge (gpt-3.5-turbo-16k-0613) is gone: compare only with the baseline here",
    "the judge's questions are our own words",
)


def make_cases(files: Files, parity: Parity, seed: int) -> list[Case]:
    """One case for each described clip; its question is drawn with the seed.

    Raises:
        InvalidRequestError: a file cannot be read or does not fit, or none of the clips exists.
    """
    references = read_texts(files.labels, DESCRIPTION_COLUMNS)
    blank = [name for name, reference in references.items() if not reference.strip()]
    if blank:
        raise InvalidRequestError(f"{files.labels} has no description of {blank[0]!r}")
    clips = find_clips(files, list(references))
    sentences = read_sentences(files, SENTENCE_COLUMNS)
    draw = random.Random(seed)
    return [
        Case(
            id=name,
            clip=clips[name],
            question=with_sentence(
                sentences(name) if sentences else None,
                f"[reason] {draw.choice(REASON_QUESTIONS)}",
            ),
            truth=reference,
            features=feature_files(files, MER2023_FEATURES, name),
            fields=request_fields(parity),
        )
        for name, reference in references.items()
    ]


async def emer_report(
    outcomes: Sequence[Outcome],
    seed: int,
    judge: Judge | None,
    baseline: Path | None,
    replies: Path,
) -> dict[str, Any]:
    """The report, with scores if there is a judge.

    Args:
        replies: file that keeps the judge's replies, so that an interrupted run can continue.

    Raises:
        InvalidRequestError: nothing was answered, or the baseline lacks a clip. And what `judge_all` raises.
    """
    answered = answered_ones(outcomes)
    report: dict[str, Any] = {
        "protocol": {
            "name": "emer",
            "seed_of_questions": seed,
            "sampling": SAMPLING,
            "notes": [*NOTES, *general_notes(answered)],
        },
        **counts(outcomes),
        "provenance": summarise_provenance(answered),
        "judge": None,
    }
    if judge is not None:
        texts = {"answers": [o.text for o in answered], **_baseline(answered, baseline)}
        references = [o.case.truth for o in answered]
        with KeyedLines(replies) as lines:
            scores = await judge_all(judge, references, texts, lines)
        report["judge"] = {
            "model": judge.model,
            "clips": [o.case.id for o in answered],
            "scores": scores,
        }
    return report


def _baseline(answered: Sequence[Outcome], path: Path | None) -> dict[str, list[str]]:
    """Another system's descriptions. Without them, every clip gets the next clip's answer as a baseline."""
    if path is None:
        texts = [outcome.text for outcome in answered]
        if len(texts) < MIN_ROTATED:
            return {}
        return {"baseline: another clip's answer": texts[1:] + texts[:1]}
    given = read_texts(path, DESCRIPTION_COLUMNS)
    missing = [o.case.id for o in answered if o.case.id not in given]
    if missing:
        raise InvalidRequestError(
            f"--baseline {path} lacks {len(missing)} clips, such as {missing[0]}"
        )
    return {f"baseline: {path.name}": [given[outcome.case.id] for outcome in answered]}


def write_descriptions(outcomes: Sequence[Outcome], path: Path) -> None:
    """Writes the answers as the original does: a CSV `names,chi_reasons`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["names", "chi_reasons"])
        writer.writerows([o.case.id, o.text] for o in outcomes if o.is_answered)


def emer_text(report: dict[str, Any]) -> str:
    """The report as text for the terminal."""
    lines = [f"emer: {report['num_answered']} of {report['num_cases']} answered"]
    for name, kinds in (report["judge"] or {"scores": {}})["scores"].items():
        for kind, result in kinds.items():
            mean = "none" if result["mean"] is None else f"{result['mean']:.2f}"
            lines.append(f"  {name}: {kind} {mean} of 10 ({result['num_scored']} scored)")
    return "\n".join([*lines, *(f"  note: {note}" for note in report["protocol"]["notes"])])
