"""EMER: what the person expresses and why, in free text; scored by a judge where one is given."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve_app.emotions import REASON_QUESTIONS
from serve_app.errors import InvalidRequestError
from serve_app.evaluation.annotations import DESCRIPTION_COLUMNS, SENTENCE_COLUMNS, read_texts
from serve_app.evaluation.cases import Case, Outcome
from serve_app.evaluation.dataset import Files, find_clip
from serve_app.evaluation.judge import Judge, judge_all
from serve_app.evaluation.protocols import SAMPLING
from serve_app.evaluation.report import counts, summarise_provenance
from serve_app.types import Parity

NOTES = (
    "the published figures' judge (gpt-3.5-turbo-16k-0613) is gone: compare only with the baseline here",
    "the judge's questions are our own words",
)


def make_cases(files: Files, parity: Parity, seed: int) -> list[Case]:
    """One question for each described clip, drawn with the seed."""
    references = read_texts(files.labels, DESCRIPTION_COLUMNS)
    sentences = read_texts(files.transcripts, SENTENCE_COLUMNS) if files.transcripts else {}
    draw = random.Random(seed)
    cases = []
    for name, reference in references.items():
        sentence = sentences.get(name)
        says = f"The person in video says: {sentence}.  " if sentence else ""
        cases.append(
            Case(
                id=name,
                clip=find_clip(files.videos, name),
                question=f"{says}[reason] {draw.choice(REASON_QUESTIONS)}",
                truth=reference,
                fields={**SAMPLING, "parity": parity, "layout": "evaluation"},
            )
        )
    if not any(case.clip.exists() for case in cases):
        raise InvalidRequestError(f"--videos {files.videos} holds none of the {len(cases)} clips")
    return cases


async def emer_report(
    outcomes: Sequence[Outcome], judge: Judge | None, baseline: Path | None
) -> dict[str, Any]:
    """Raises what the judge raises, and InvalidRequestError: the baseline lacks a clip."""
    answered = [outcome for outcome in outcomes if outcome.is_answered]
    if not answered:
        raise InvalidRequestError(
            f"none of {len(outcomes)} cases was answered: {outcomes[0].error}"
        )
    report: dict[str, Any] = {
        "protocol": {"name": "emer", "notes": list(NOTES)},
        **counts(outcomes),
        "provenance": summarise_provenance(answered),
        "judge": None,
    }
    if judge is not None:
        texts = {"answers": [o.text for o in answered], **_baseline(answered, baseline)}
        references = [o.case.truth for o in answered]
        report["judge"] = {
            "model": judge.model,
            "clips": [o.case.id for o in answered],
            "scores": await judge_all(judge, references, texts),
        }
    return report


def _baseline(answered: Sequence[Outcome], path: Path | None) -> dict[str, list[str]]:
    """Another system's descriptions; or every clip gets the next one's answer, as chance would have it."""
    if path is None:
        texts = [outcome.text for outcome in answered]
        return {"baseline: another clip's answer": texts[1:] + texts[:1]}
    given = read_texts(path, DESCRIPTION_COLUMNS)
    missing = [o.case.id for o in answered if o.case.id not in given]
    if missing:
        raise InvalidRequestError(
            f"--baseline {path} lacks {len(missing)} clips, such as {missing[0]}"
        )
    return {f"baseline: {path.name}": [given[outcome.case.id] for outcome in answered]}


def write_descriptions(outcomes: Sequence[Outcome], path: Path) -> None:
    """The original's form: a CSV `names,chi_reasons`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["names", "chi_reasons"])
        writer.writerows([o.case.id, o.text] for o in outcomes if o.is_answered)


def emer_text(report: dict[str, Any]) -> str:
    """For the terminal."""
    lines = [f"emer: {report['num_answered']} of {report['num_cases']} answered"]
    for name, kinds in (report["judge"] or {"scores": {}})["scores"].items():
        for kind, result in kinds.items():
            mean = "none" if result["mean"] is None else f"{result['mean']:.2f}"
            lines.append(f"  {name}: {kind} {mean} of 10 ({result['num_scored']} scored)")
    return "\n".join([*lines, *(f"  note: {note}" for note in report["protocol"]["notes"])])
