"""EMER: questions by seed, and a judge that is a real HTTP server with OpenAI's API."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import InvalidRequestError, NotReadyError
from serve_app.evaluation import judge as judge_module
from serve_app.evaluation.cases import Outcome
from serve_app.evaluation.dataset import Files
from serve_app.evaluation.emer import emer_report, emer_text, make_cases, write_descriptions
from serve_app.evaluation.judge import Judge, read_score


class JudgeServer(ThreadingHTTPServer):
    """Scores 8 if the prediction is the reference, 3 if it mentions rain, else 5; records the bodies."""

    bodies: list[dict[str, Any]]
    failures: int = 0


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer secret":
            return self._send(401, {"error": {"message": "no key"}})
        if self.server.failures:
            self.server.failures -= 1
            return self._send(503, {})
        self.server.bodies.append(body)
        reference, prediction = (
            body["messages"][0]["content"].split("《真实描述》")[1].split("《预测描述》")
        )
        if prediction == "refused":
            return self._send(400, {"error": {"message": "no"}})
        score = (
            "8" if reference.strip() == prediction else "3 分" if "rain" in prediction else "5.5/10"
        )
        return self._send(200, {"choices": [{"message": {"content": score}}]})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer(("127.0.0.1", 0), _Handler)
    server.bodies = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def judge(server: JudgeServer) -> Judge:
    return Judge(f"http://127.0.0.1:{server.server_port}/v1", "judge-model", "secret")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "labels.csv").write_text("names,chi_reasons\na,she smiles\nb,he cries\nc,rain\n")
    for name in "abc":
        (tmp_path / f"{name}.mp4").touch()
    return Files(tmp_path, tmp_path / "labels.csv")


@pytest.fixture
def outcomes(files: Files) -> list[Outcome]:
    texts = ("she smiles", "it does rain", "he is tired")
    cases = make_cases(files, "reference", seed=0)
    return [Outcome(case, text) for case, text in zip(cases, texts, strict=True)]


def test_questions_come_from_the_originals_pool_by_the_seed(files: Files) -> None:
    first, again, other = (make_cases(files, "reference", seed) for seed in (0, 0, 3))
    assert [c.question for c in first] == [c.question for c in again]
    assert [c.question for c in first] != [c.question for c in other]
    assert all(case.question.startswith("[reason] ") for case in first)
    assert first[0].body()["layout"] == "evaluation"


async def test_a_judge_scores_the_answers_and_a_baseline_in_one_run(
    server: JudgeServer, judge: Judge, outcomes: list[Outcome], tmp_path: Path
) -> None:
    baseline = tmp_path / "baseline.csv"
    baseline.write_text("names,chi_reasons\na,rain\nb,he cries\nc,rain\n")
    server.failures = 1  # asked again
    report = await emer_report(outcomes, 0, judge, baseline, tmp_path / "replies.jsonl")
    answers = report["judge"]["scores"]["answers"]["clue_overlap"]
    other = report["judge"]["scores"]["baseline: baseline.csv"]["label_overlap"]
    assert [row["score"] for row in answers["rows"]] == [8, 3, 5.5]
    assert answers["mean"] == pytest.approx(5.5)
    assert [row["score"] for row in other["rows"]] == [3, 8, 8]
    assert other["rows"][0]["reply"] == "3 分"
    assert {body["model"] for body in server.bodies} == {"judge-model"}
    assert {body["temperature"] for body in server.bodies} == {0}
    assert "answers: clue_overlap 5.50 of 10 (3 scored)" in emer_text(report)
    # Paid for once: a second run asks nothing, and a third only what is new.
    num_asked = len(server.bodies)
    again = await emer_report(outcomes, 0, judge, baseline, tmp_path / "replies.jsonl")
    assert again["judge"] == report["judge"]
    assert len(server.bodies) == num_asked
    baseline.write_text("names,chi_reasons\na,a storm\nb,he cries\nc,rain\n")
    await emer_report(outcomes, 0, judge, baseline, tmp_path / "replies.jsonl")
    assert len(server.bodies) == num_asked + 2


async def test_a_clip_that_one_list_has_no_score_of_is_in_no_mean(
    judge: Judge, outcomes: list[Outcome], tmp_path: Path
) -> None:
    baseline = tmp_path / "baseline.csv"
    baseline.write_text("names,chi_reasons\na,refused\nb,he cries\nc,rain\n")
    report = await emer_report(outcomes, 0, judge, baseline, tmp_path / "replies.jsonl")
    answers = report["judge"]["scores"]["answers"]["clue_overlap"]
    assert answers["num_scored"] == 2
    assert answers["mean"] == pytest.approx((3 + 5.5) / 2)
    refused = report["judge"]["scores"]["baseline: baseline.csv"]["clue_overlap"]["rows"][0]
    assert (refused["score"], refused["error"][:10]) == (None, "status 400")


async def test_without_a_baseline_another_clips_answer_is_one(
    server: JudgeServer, judge: Judge, outcomes: list[Outcome], tmp_path: Path
) -> None:
    report = await emer_report(outcomes, 0, judge, None, tmp_path / "replies.jsonl")
    assert list(report["judge"]["scores"]) == ["answers", "baseline: another clip's answer"]
    compared = {body["messages"][0]["content"].split("《真实描述》")[1] for body in server.bodies}
    assert "she smiles\n\n《预测描述》it does rain" in compared
    alone = await emer_report(outcomes[:1], 0, judge, None, tmp_path / "replies.jsonl")
    assert list(alone["judge"]["scores"]) == ["answers"]


async def test_without_a_judge_the_answers_are_written_in_the_originals_form(
    outcomes: list[Outcome], tmp_path: Path
) -> None:
    report = await emer_report(outcomes, 7, None, None, tmp_path / "replies.jsonl")
    assert report["judge"] is None
    assert report["protocol"]["seed_of_questions"] == 7
    write_descriptions(outcomes, tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[:2] == ["names,chi_reasons", "a,she smiles"]


async def test_what_is_wrong_with_judge_or_baseline_is_said(
    judge: Judge, outcomes: list[Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = tmp_path / "replies.jsonl"
    with pytest.raises(
        InvalidRequestError, match="answered no question; the first error: status 401"
    ):
        await emer_report(outcomes, 0, Judge(judge.url, "m", "wrong"), None, replies)
    monkeypatch.setattr(judge_module, "PAUSES_S", (0.0,))
    with pytest.raises(NotReadyError, match="does not answer"):
        await emer_report(outcomes, 0, Judge("http://127.0.0.1:9/v1", "m"), None, replies)
    (tmp_path / "b.csv").write_text("names,chi_reasons\na,rain\n")
    with pytest.raises(InvalidRequestError, match="lacks 2 clips, such as b"):
        await emer_report(outcomes, 0, judge, tmp_path / "b.csv", replies)


def test_a_clip_without_its_transcript_or_description_is_refused(files: Files) -> None:
    transcripts = files.labels.with_name("t.csv")
    transcripts.write_text("name,sentence\na,Hello\n")
    with pytest.raises(InvalidRequestError, match="no transcript of 'b'"):
        make_cases(replace(files, transcripts=transcripts), "reference", 0)
    files.labels.write_text("names,chi_reasons\na,\n")
    with pytest.raises(InvalidRequestError, match="no description of 'a'"):
        make_cases(files, "reference", 0)


@pytest.mark.parametrize(
    ("reply", "score"), [("7", 7), ("分数: 6.5 分", 6.5), ("none", None), ("0", None), ("85", None)]
)
def test_the_score_is_the_first_number_of_a_reply(reply: str, score: float | None) -> None:
    assert read_score(reply) == score
