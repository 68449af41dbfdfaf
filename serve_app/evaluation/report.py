"""Reports: what was evaluated, how, and with which result, as JSON and as text for the terminal."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve_app import __version__
from serve_app.errors import InvalidRequestError
from serve_app.evaluation.calibration import calibrate
from serve_app.evaluation.cases import Outcome
from serve_app.evaluation.protocols import REFERENCE_FALLBACK, SAMPLING, Protocol
from serve_app.evaluation.scores import OUTSIDE, Labelled, outside_answers, score_labels
from serve_app.types import Parity

MAX_ERROR_EXAMPLES = 10
CONFIDENCE_NOTE = "a probability says how sure the model is of a word, not what a person feels"


def label_report(protocol: Protocol, outcomes: Sequence[Outcome], parity: Parity) -> dict[str, Any]:
    """Scores answers against labels. Cases without an answer are counted and excluded from every score.

    Raises:
        InvalidRequestError: nothing was answered, or the answers come from more than one model.
    """
    answered = answered_ones(outcomes)
    first, texts = answered[0], [outcome.text for outcome in answered]
    read = [protocol.read(text, parity) for text in texts]
    fallback = REFERENCE_FALLBACK if parity == "reference" else OUTSIDE
    if fallback not in (*protocol.scored, OUTSIDE):
        fallback = OUTSIDE
    truth = [outcome.case.truth for outcome in answered]
    labelled = Labelled(truth, [label or fallback for label in read], protocol.scored)
    provenance = summarise_provenance(answered)
    return {
        "protocol": {
            "name": protocol.name,
            "labels_asked": list(protocol.asked),
            "labels_scored": list(protocol.scored),
            "answers_outside_count_as": fallback,
            "reading": _reading(protocol, parity),
            "example_question": first.case.question,
            "notes": [*protocol.notes, *general_notes(answered)],
            "sampling": {name: first.case.fields.get(name, "the server's") for name in SAMPLING},
        },
        **counts(outcomes),
        "scores": score_labels(labelled),
        "published": dict(protocol.published or {}),
        "outside_label_set": outside_answers(texts, read),
        "calibration": calibrate(
            [o.case.truth for o in answered if o.probabilities],
            [o.probabilities for o in answered if o.probabilities],
        ),
        "mean_label_mass": _mean_label_mass(answered),
        "provenance": provenance,
    }


def _mean_label_mass(answered: Sequence[Outcome]) -> float | None:
    """Mean probability of all labels together: low if the model would rather say something else."""
    masses = [each.label_mass for each in answered if each.label_mass is not None]
    return sum(masses) / len(masses) if masses else None


def _reading(protocol: Protocol, parity: Parity) -> str:
    if protocol.is_exact:
        return "the label and nothing else"
    return "the last word, exactly" if parity == "reference" else "any name of a label"


def counts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    failed = [outcome for outcome in outcomes if not outcome.is_answered]
    return {
        "num_cases": len(outcomes),
        "num_answered": len(outcomes) - len(failed),
        "errors": dict(Counter(outcome.error_code for outcome in failed)),
        "error_examples": {o.case.id: o.error for o in failed[:MAX_ERROR_EXAMPLES]},
    }


def summarise_provenance(answered: Sequence[Outcome]) -> dict[str, Any]:
    """How the answers were made: a value where all answers share it, otherwise the count of each value."""
    models = Counter(str(outcome.provenance.get("model_sha256")) for outcome in answered)
    if len(models) > 1:
        raise InvalidRequestError(
            f"the answers come from {len(models)} models ({', '.join(m[:12] for m in models)}); "
            "--restart runs every case again"
        )
    summary: dict[str, Any] = {"serve_app_version": __version__}
    shared = ("model_sha256", "dtype", "prompt_layout", "tokenization", "parity", "audio_mode")
    for name in shared:
        values = Counter(str(outcome.provenance.get(name)) for outcome in answered)
        summary[name] = next(iter(values)) if len(values) == 1 else dict(values)
    summary["frame"] = "first" if _all_at_start(answered) else "as each case asked"
    for name in ("zeroed", "missing", "features"):
        found = Counter(each for o in answered for each in o.provenance.get(name, ()))
        summary[f"clips_by_{name}"] = dict(found)
    return summary


def write_report(report: dict[str, Any], path: Path) -> None:
    """Writes the whole report or nothing."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    part.rename(path)


def label_text(report: dict[str, Any]) -> str:
    """The report as text for the terminal."""
    scores, outside = report["scores"], report["outside_label_set"]
    lines = [f"{report['protocol']['name']}: {_counts_text(report)}", ""]
    for name, score in scores["headline"].items():
        low, high = score["interval_95"]
        published = report["published"].get(name)
        also = "" if published is None else f"   published {published:.4f}"
        lines.append(
            f"  {_NAMES[name]:<20} {score['value']:.4f}   95 % {low:.4f} to {high:.4f}{also}"
        )
    if report["calibration"]:
        lines.append(f"  {'ECE':<20} {report['calibration']['ece']:.4f}")
    lines.append(
        f"  outside the label set: {outside['count']} ({outside['share']:.1%}), "
        f"counted as {report['protocol']['answers_outside_count_as']}"
    )
    lines += ["", *_confusion_lines(scores["confusion"]), ""]
    lines += [f"  {name}: {value}" for name, value in report["provenance"].items()]
    lines += [f"  note: {note}" for note in report["protocol"]["notes"]]
    return "\n".join(lines)


_NAMES = {
    "weighted_f1": "weighted F1 (primary)",
    "macro_f1": "macro F1",
    "uar": "UAR",
    "accuracy": "accuracy (WAR)",
    "weighted_precision": "weighted precision",
}


def _counts_text(report: dict[str, Any]) -> str:
    text = f"{report['num_answered']} of {report['num_cases']} answered"
    errors = ", ".join(f"{count} {code}" for code, count in report["errors"].items())
    return f"{text}; excluded from every score: {errors}" if errors else text


def _confusion_lines(confusion: dict[str, Any]) -> list[str]:
    columns = confusion["columns_answered"]
    lines = ["  " + " " * 10 + " ".join(f"{name[:8]:>8}" for name in columns) + "   (answered)"]
    for label, row in zip(confusion["rows_true"], confusion["counts"], strict=True):
        lines.append(f"  {label[:10]:<10}" + " ".join(f"{count:>8}" for count in row))
    return lines


def answered_ones(outcomes: Sequence[Outcome]) -> list[Outcome]:
    answered = [outcome for outcome in outcomes if outcome.is_answered]
    if not answered:
        first = outcomes[0]
        raise InvalidRequestError(
            f"none of {len(outcomes)} cases was answered; {first.case.id}: {first.error}"
        )
    return answered


def general_notes(answered: Sequence[Outcome]) -> list[str]:
    """Notes that apply to every protocol."""
    zeroed = {each for outcome in answered for each in outcome.provenance.get("zeroed", ())}
    empty = sorted({"face_feature", "temporal_feature"} & zeroed)
    notes = [f"zeros stood in for {' and '.join(empty)}, as in the released demo"] if empty else []
    return [*notes, CONFIDENCE_NOTE]


def _all_at_start(answered: Sequence[Outcome]) -> bool:
    return all("frame" not in outcome.case.fields for outcome in answered)
