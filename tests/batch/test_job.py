"""A batch apart from its stages: what it refuses, resumes, gives up, and writes at the end."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from serve_app.batch import cluster
from serve_app.batch.answering import AnsweredUnit
from serve_app.batch.job import run_job
from serve_app.batch.manifest import Manifest
from serve_app.batch.options import Defaults, Job
from serve_app.batch.records import answer_record, error_record, score_record
from serve_app.batch.rows import Record, Row, RowRequest
from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.cli import main
from serve_app.errors import BatchFailedError, ClipNotFoundError, InvalidRequestError
from serve_app.settings import AppSettings
from serve_app.types import NO_SOURCE, Answer, AnswerRequest, LabelScores, ScoreRequest, Usage

TIMINGS = {"decode": 1.0, "queue": 2.0, "first_token": 3.0, "total": 4.0}
USAGE = Usage(10, 2, 5)


def record(row: Row) -> Record:
    """The record of a row: an error for the clip named none, scores for a row with a task, else an answer."""
    if "none" in row.fields["video"]:
        return error_record(row.number, row.id, ClipNotFoundError("no file"), is_openai=False)
    if "task" in row.fields:
        scored = RowRequest(row.number, row.id, ScoreRequest(NO_SOURCE, "", ("a", "b")))
        return score_record(scored, LabelScores({"a": 0.25, "b": 0.75}, 0.5, USAGE, TIMINGS))
    answered = RowRequest(row.number, row.id, AnswerRequest(NO_SOURCE, "What?"))
    return answer_record(
        answered, Answer("happy", [1], [1], "stop", USAGE, TIMINGS, {"dtype": "x"})
    )


class Stages:
    """Replaces Ray: answers rows one by one and can be interrupted."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.stops_after: int | None = None

    @contextmanager
    def __call__(
        self, job: Job, manifest: Manifest, done: bytes
    ) -> Iterator[Iterator[AnsweredUnit]]:
        yield self._units(manifest, done)

    def _units(self, manifest: Manifest, done: bytes) -> Iterator[AnsweredUnit]:
        for row in manifest.rows():
            if done[row.number]:
                continue
            if self.stops_after == len(self.asked):
                raise KeyboardInterrupt
            self.asked.append(row.number)
            yield AnsweredUnit((record(row),), {"engine here": (row.number, row.number)})


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    stages = Stages()
    monkeypatch.setattr(cluster, "answering_units", stages)
    return stages


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """400 rows, 5 % of them bad."""
    manifest = tmp_path / "manifest.jsonl"
    names = ["none" if number % 20 == 7 else str(number) for number in range(400)]
    manifest.write_text("".join(json.dumps({"video": f"/{name}.mp4"}) + "\n" for name in names))
    settings = AppSettings(model=DEMO_CHECKPOINT)
    defaults = Defaults(question="What?")
    return Job(str(manifest), str(tmp_path / "out.jsonl"), settings, defaults)


def read(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(job.output).read_text().splitlines()]


def test_every_row_is_in_the_output_once_and_in_order(job: Job, stages: Stages) -> None:
    summary = run_job(job)
    records = read(job)
    assert [each["id"] for each in records] == [str(number) for number in range(400)]
    assert records[7]["error"] == {"code": "clip_not_found", "message": "no file"}
    assert records[7]["text"] is None
    assert records[8]["text"] == "happy"
    assert records[8]["error"] is None
    assert {tuple(each) for each in records} == {tuple(records[0])}, "every line has every field"
    assert (summary["num_rows"], summary["errors"]) == (400, {"clip_not_found": 20})


def test_an_interrupted_job_goes_on_where_it_stopped(job: Job, stages: Stages) -> None:
    stages.stops_after = 300
    with pytest.raises(KeyboardInterrupt):
        run_job(job)
    assert not Path(job.output).exists()
    stages.stops_after = None
    summary = run_job(replace(job, resume=True))
    assert sorted(stages.asked) == list(range(400)), "no row was asked twice"
    assert summary["num_resumed"] == 300
    assert [each["id"] for each in read(job)] == [str(number) for number in range(400)]


def test_a_finished_job_is_resumed_without_asking(job: Job, stages: Stages) -> None:
    first = run_job(job)
    before = Path(job.output).read_bytes()
    stages.asked.clear()
    assert run_job(replace(job, resume=True)) == first
    assert stages.asked == []
    assert Path(job.output).read_bytes() == before


def test_a_job_that_ended_while_its_output_was_written_writes_it_again(
    job: Job, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.batch.job.remove_parts", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_job(job)
    (Path(f"{job.output}.parts") / "finished.json").unlink()
    Path(job.output).write_text("not what it should be")
    monkeypatch.undo()
    run_job(replace(job, resume=True))
    assert len(read(job)) == 400


@pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "begun"])
def test_without_resume_nothing_that_exists_is_touched(
    is_finished: bool, job: Job, stages: Stages
) -> None:
    stages.stops_after = None if is_finished else 5
    try:
        run_job(job)
    except KeyboardInterrupt:
        assert not is_finished
    with pytest.raises(InvalidRequestError, match="exists already; --resume continues"):
        run_job(job)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"defaults": Defaults(question="Why?")}, "question is 'Why?' now and was 'What?'"),
        ({"defaults": Defaults(task="emotion")}, "task is 'emotion' now and was None"),
        (
            {"defaults": Defaults(question="What?", options={"frame": "middle"})},
            "options is {'frame': 'middle'} now and was {}",
        ),
        (
            {"settings": AppSettings(model=DEMO_CHECKPOINT, parity="reference")},
            "parity is 'reference'",
        ),
    ],
    ids=["question", "task", "frame", "parity"],
)
def test_parts_of_another_job_are_refused_by_what_differs(
    change: dict[str, Any], message: str, job: Job, stages: Stages
) -> None:
    run_job(job)
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        run_job(replace(job, resume=True, **change))


def test_another_manifest_or_model_is_refused(
    job: Job, stages: Stages, tiny_checkpoint: Path
) -> None:
    run_job(job)
    other_model = replace(job, resume=True, settings=AppSettings(model=tiny_checkpoint))
    with pytest.raises(InvalidRequestError, match="another job: model_sha256 is "):
        run_job(other_model)
    with Path(job.input).open("a") as file:
        file.write('{"video": "/more.mp4"}\n')
    with pytest.raises(
        InvalidRequestError, match="num_rows is 401 now and was 400; manifest_sha256 is "
    ):
        run_job(replace(job, resume=True))


def test_clips_alone_need_a_question(job: Job, stages: Stages, tmp_path: Path) -> None:
    (tmp_path / "1.mp4").touch()
    with pytest.raises(InvalidRequestError, match="holds only clips: give --question or --task"):
        run_job(replace(job, input=str(tmp_path), defaults=Defaults()))


def test_openai_lines_take_no_options_of_the_command(job: Job, stages: Stages) -> None:
    Path(job.input).write_text('{"custom_id": "a", "url": "/v1/chat/completions", "body": {}}\n')
    with pytest.raises(InvalidRequestError, match="hold complete requests"):
        run_job(job)


def test_an_output_that_something_else_wrote_is_not_resumed(job: Job, stages: Stages) -> None:
    Path(job.output).write_text("mine")
    with pytest.raises(InvalidRequestError, match=r"has no .*job\.json beside it"):
        run_job(replace(job, resume=True))
    assert Path(job.output).read_text() == "mine"


def test_a_hopeless_job_ends_early_and_keeps_what_it_has(job: Job, stages: Stages) -> None:
    with pytest.raises(
        BatchFailedError, match=r"5 of 10\d rows have errors .*--max-error-rate is 0.04"
    ):
        run_job(replace(job, max_error_rate=0.04))
    assert len(stages.asked) < 130
    summary = run_job(replace(job, max_error_rate=0.1, resume=True))
    assert summary["num_errors"] == 20
    assert len(stages.asked) == 400


def test_rows_that_do_not_come_back_fail_the_job(
    job: Job, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(Manifest(job.input, "jsonl").rows())
    unit = AnsweredUnit(tuple(map(record, rows[:399])), {})
    monkeypatch.setattr(stages, "_units", lambda *_: iter([unit]))
    with pytest.raises(BatchFailedError, match="1 rows did not come back"):
        run_job(job)


def test_parquet_has_the_same_fields_as_a_table(job: Job, stages: Stages, tmp_path: Path) -> None:
    lines = [{"video": "/1.mp4"}, {"video": "/none.mp4"}, {"video": "/2.mp4", "task": "emotion"}]
    Path(job.input).write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_job(replace(job, output=str(tmp_path / "out.parquet")))
    answered, refused, scored = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert (answered["id"], answered["text"], answered["error"]) == ("0", "happy", None)
    assert json.loads(answered["provenance"]) == {"dtype": "x"}
    assert answered["timings_ms"] == TIMINGS
    assert refused["error"] == {"code": "clip_not_found", "message": "no file"}
    assert (refused["text"], refused["timings_ms"]) == (None, None)
    assert scored["label"] == "b"
    assert scored["probabilities"] == [
        {"label": "a", "probability": 0.25},
        {"label": "b", "probability": 0.75},
    ]


def test_a_store_behind_a_uri_takes_the_output(job: Job, stages: Stages) -> None:
    from serve_app.batch.storage import Folder

    Folder("fsspec+memory://answers").create()
    run_job(replace(job, output="fsspec+memory://answers/out.jsonl"))
    assert len(Folder("fsspec+memory://answers").read("out.jsonl").splitlines()) == 400
    assert Folder("fsspec+memory://answers/out.jsonl.parts").names() == [
        "finished.json",
        "job.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "out.csv"], "expected a name that ends in .jsonl or .parquet"),
        (["--output", "none/out.jsonl"], "its folder does not exist"),
        (["--output", "out.jsonl", "--concurrency", "0"], "--concurrency is 0; at least 1"),
        (["--output", "out.jsonl", "--max-error-rate", "2"], "--max-error-rate is 2.0; 0 to 1"),
        (["--output", "out.jsonl", "--report", "none/r.json"], "--report none/r.json: its folder"),
    ],
)
def test_a_wrong_option_is_named_and_ends_with_2(
    arguments: list[str],
    message: str,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["batch", "--input", job.input, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_exit_status_tells_rows_with_errors_from_none(
    job: Job, stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["batch", "--input", job.input, "--question", "What?"]
    assert main([*command, "--output", job.output, "--report", str(tmp_path / "r.json")]) == 3
    assert "400 rows  20 errors (clip_not_found 20)" in capsys.readouterr().err
    assert json.loads((tmp_path / "r.json").read_text())["num_errors"] == 20
    Path(job.input).write_text('{"video": "/1.mp4"}\n')
    assert main([*command, "--output", str(tmp_path / "other.jsonl")]) == 0
    assert main([*command, "--output", str(tmp_path / "other.jsonl")]) == 2


def test_the_commands_labels_may_have_spaces_after_their_commas(
    job: Job, stages: Stages, tmp_path: Path
) -> None:
    Path(job.input).write_text('{"video": "/1.mp4"}\n')
    command = ["batch", "--input", job.input, "--task", "emotion", "--labels", "happy, sad"]
    main([*command, "--output", job.output, "--report", str(tmp_path / "r.json")])
    assert json.loads((tmp_path / "r.json").read_text())["job"]["labels"] == ["happy", "sad"]


def test_without_pyarrow_the_command_says_what_to_install(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("serve_app.batch.storage.find_spec", lambda name: None)
    assert main(["batch", "--input", job.input, "--output", job.output]) == 1
    assert "pip install 'emotion-llama-serve[batch]'" in capsys.readouterr().err
