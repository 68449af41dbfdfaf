"""A run: retries, errors as outcomes, continuing where it stopped, and its report."""

import asyncio
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from evaluation.conftest import TableClient

from serve_app.errors import (
    ClipNotFoundError,
    InvalidRequestError,
    NotReadyError,
    ReplicaLostError,
)
from serve_app.evaluation import runner
from serve_app.evaluation.cases import Case, Outcome
from serve_app.evaluation.dataset import Files, make_cases
from serve_app.evaluation.protocols import PROTOCOLS
from serve_app.evaluation.report import label_report, label_text
from serve_app.evaluation.runner import identify, run_cases
from serve_app.evaluation.store import AnswerStore, KeyedLines

MER2023 = PROTOCOLS["mer2023"]


@pytest.fixture
def cases(mer2023_folder: Path) -> list[Case]:
    files = Files(mer2023_folder, mer2023_folder / "list.txt")
    return make_cases(MER2023, files, "reference", True)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_AFTER_S", (0.0, 0.0))


async def run(
    client: TableClient | None, cases: list[Case], path: Path, answerer: str = "model"
) -> list[Outcome]:
    def connect() -> nullcontext[TableClient]:
        assert client is not None, "nobody was to be asked"
        return nullcontext(client)

    with KeyedLines(path) as lines:
        return await run_cases(connect, cases, AnswerStore(lines, answerer), concurrency=2)


async def test_a_busy_server_is_asked_again_and_an_error_becomes_a_row(
    cases: list[Case], tmp_path: Path
) -> None:
    lost, missing = ReplicaLostError("gone"), ClipNotFoundError("no file at /x.mp4")
    client = TableClient({"s_1": [lost, lost, "sad"], "s_2": [missing], "s_3": [lost]})
    outcomes = await run(client, cases, tmp_path / "answers.jsonl")
    assert [outcome.text for outcome in outcomes] == ["sad", "", ""]
    assert [outcome.error_code for outcome in outcomes] == ["", "clip_not_found", "replica_lost"]
    assert "no file at /x.mp4" in outcomes[1].error
    assert client.asked.count("s_2") == 1
    assert client.asked.count("s_3") == 3


async def test_a_run_goes_on_where_it_stopped(cases: list[Case], tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    broken = TableClient({"s_1": ["sad"], "s_2": [ClipNotFoundError("?")], "s_3": ["neutral"]})
    await run(broken, cases, path)
    with path.open("a") as file:
        file.write('{"key": "cut o')  # the machine went down while it wrote
    client = TableClient({"s_1": ["other"], "s_2": ["happy"], "s_3": ["other"]})
    outcomes = await run(client, cases, path)
    assert client.asked == ["s_2"]
    assert [outcome.text for outcome in outcomes] == ["sad", "happy", "neutral"]
    assert outcomes[0].probabilities is not None
    again = await run(None, cases, path)
    assert [outcome.text for outcome in again] == ["sad", "happy", "neutral"]


async def test_a_changed_clip_or_question_or_model_is_asked_again(
    cases: list[Case], tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    client = TableClient({name: ["sad"] for name in ("s_1", "s_2", "s_3")})
    await run(client, cases, path)
    cases[0].clip.write_bytes(b"another take")
    cases[1] = Case(cases[1].id, cases[1].clip, "something else", cases[1].truth)
    client.asked.clear()
    await run(client, cases, path)
    assert sorted(client.asked) == ["s_1", "s_2"]
    client.asked.clear()
    await run(client, cases, path, "another model")
    assert sorted(client.asked) == ["s_1", "s_2", "s_3"]


@pytest.mark.parametrize("text", ["dear diary\n", "dear diary", '{"no": "key"}\n'])
def test_a_file_that_holds_no_answers_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match="remove it to start over"):
        KeyedLines(path)
    assert path.read_text() == text


def test_lines_survive_any_text_and_a_cut_inside_a_character(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with KeyedLines(path) as lines:
        lines.put("one", {"text": "two\u2028lines \u0085 \U0001f600"})
    with path.open("ab") as file:
        file.write('{"key": "two", "text": "\u4f60'.encode()[:-1])
    with KeyedLines(path) as lines:
        assert lines.get("one") == {"key": "one", "text": "two\u2028lines \u0085 \U0001f600"}
        assert lines.get("two") is None
        lines.put("three", {})
    with KeyedLines(path) as lines:
        assert lines.get("three") is not None


async def test_a_server_that_is_gone_ends_the_run_and_keeps_what_was_answered(
    cases: list[Case], tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    client = TableClient({"s_1": ["sad"], "s_2": [NotReadyError("gone")], "s_3": ["neutral"]})
    with pytest.raises(NotReadyError, match="gone"):
        await run(client, cases, path)
    client = TableClient({"s_2": ["happy"], "s_3": ["neutral"]})
    assert [o.text for o in await run(client, cases, path)] == ["sad", "happy", "neutral"]
    assert "s_1" not in client.asked


async def test_cases_are_asked_many_at_a_time(cases: list[Case], tmp_path: Path) -> None:
    class Meeting(TableClient):
        """Answers only when two requests are waiting."""

        barrier = asyncio.Barrier(2)

        async def answer(self, body: Any) -> dict[str, Any]:
            await asyncio.wait_for(self.barrier.wait(), timeout=5)
            return await super().answer(body)

    client = Meeting({name: ["sad"] for name in ("s_1", "s_2")})
    assert all(o.is_answered for o in await run(client, cases[:2], tmp_path / "answers.jsonl"))


async def test_labels_that_cannot_be_scored_leave_the_answer(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(body: Any) -> Any:
        raise InvalidRequestError("two labels are the same to the model")

    client = TableClient({name: ["sad"] for name in ("s_1", "s_2", "s_3")})
    monkeypatch.setattr(client, "score", refuse)
    outcomes = await run(client, cases, tmp_path / "answers.jsonl")
    assert {(o.text, o.probabilities) for o in outcomes} == {("sad", None)}


async def test_probabilities_are_asked_for_about_the_same_prompt(
    cases: list[Case], tmp_path: Path
) -> None:
    client = TableClient({name: ["sad"] for name in ("s_1", "s_2", "s_3")})
    await run(client, cases, tmp_path / "answers.jsonl")
    (body,) = [b for b in client.scored if b["video_path"] == str(cases[0].clip)]
    assert body == {
        "video_path": str(cases[0].clip),
        "question": cases[0].question,
        "parity": "reference",
        "layout": "evaluation",
        "tokenization": "4.30",
        "labels": list(MER2023.scored),
    }


async def test_whoever_answers_is_known_by_its_model(cases: list[Case]) -> None:
    client = TableClient({"s_1": [ClipNotFoundError("?")], "s_2": ["happy"]})
    assert await identify(client, cases) == f"{'m' * 64} float32"
    with pytest.raises(NotReadyError):
        await identify(TableClient({"s_1": [NotReadyError("gone")]}), cases)


async def test_a_report_by_the_originals_rule_says_what_it_hides(
    cases: list[Case], tmp_path: Path
) -> None:
    client = TableClient({"s_1": ["sad"], "s_2": ["Happy"], "s_3": ["fear"]})
    outcomes = await run(client, cases, tmp_path / "answers.jsonl")
    reference = label_report(MER2023, outcomes, "reference")
    assert reference["scores"]["headline"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert reference["outside_label_set"]["most_frequent"] == {"Happy": 1, "fear": 1}
    assert reference["protocol"]["answers_outside_count_as"] == "neutral"
    assert reference["published"]["weighted_f1"] == 0.90358
    assert reference["provenance"]["model_sha256"] == "m" * 64
    assert reference["calibration"]["num_rows"] == 3
    assert reference["mean_label_mass"] == 0.5
    ours = label_report(MER2023, outcomes, "default")
    assert ours["outside_label_set"]["count"] == 1
    assert ours["scores"]["confusion"]["columns_answered"][-1] == "(other)"
    text = label_text(reference)
    assert "weighted F1 (primary)" in text
    assert "outside the label set: 2 (66.7%), counted as neutral" in text
    assert json.dumps(reference)


async def test_errors_are_in_no_score_and_are_counted(cases: list[Case], tmp_path: Path) -> None:
    client = TableClient({"s_1": ["sad"], "s_2": [ClipNotFoundError("?")], "s_3": ["neutral"]})
    report = label_report(MER2023, await run(client, cases, tmp_path / "a.jsonl"), "reference")
    assert report["scores"]["num_scored"] == report["num_answered"] == 2
    assert report["errors"] == {"clip_not_found": 1}
    assert "2 of 3 answered; excluded from every score: 1 clip_not_found" in label_text(report)


async def test_answers_of_two_models_make_no_report(cases: list[Case]) -> None:
    outcomes = [
        Outcome(case, "sad", provenance={"model_sha256": model})
        for case, model in zip(cases[:2], ("one", "two"), strict=True)
    ]
    with pytest.raises(InvalidRequestError, match=r"2 models .*--restart"):
        label_report(MER2023, outcomes, "reference")


async def test_nothing_answered_makes_no_report(cases: list[Case]) -> None:
    outcomes = [Outcome(case, error_code="not_ready", error="no server") for case in cases]
    with pytest.raises(InvalidRequestError, match=r"none of 3 .* s_1: no server"):
        label_report(MER2023, outcomes, "reference")
