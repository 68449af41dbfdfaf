"""`emotion-llama evaluate` against a real server: the demonstration's rows, and a user's own clips."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.cli import main
from serve_app.cli.exit_status import LIMIT_MISSED

NUM_CLIPS = 45  # of `make demo-report`'s 300
SEED = 6_000_000


@pytest.fixture(scope="module")
def report(server_url: str, clips_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report on fresh clips: neither the training nor the model card has seen their seeds."""
    out = tmp_path_factory.mktemp("report") / "demo.json"
    options = ["--clips", str(NUM_CLIPS), "--seed", str(SEED), "--videos", str(clips_root / "demo")]
    status = main(["evaluate", "demo", "--url", server_url, *options, "--out", str(out)])
    assert status in (0, LIMIT_MISSED), "a case was not answered"
    assert out.with_suffix(".confusion.png").stat().st_size > 5000
    assert out.with_suffix(".reliability.png").stat().st_size > 5000
    return json.loads(out.read_text())


def test_every_row_keeps_its_limit(report: Any) -> None:
    with_limit = [test for test in report["tests"] if "passed" in test]
    assert len(with_limit) > 30
    assert [test for test in with_limit if not test["passed"]] == []


def test_every_case_was_answered_and_its_probabilities_are_calibrated(report: Any) -> None:
    assert report["num_answered"] == report["num_cases"] > 15 * NUM_CLIPS
    assert report["calibration"]["num_rows"] == NUM_CLIPS
    assert report["calibration"]["ece"] < 0.06
    assert report["provenance"]["dtype"] == "float32"


def test_a_folder_of_the_users_own_clips(
    server_url: str,
    clips_root: Path,
    label_clips: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Labels under other names, one broken clip and one missing clip; then again after both are repaired."""
    other_names = {"happy": "happiness", "angry": "Anger", "fear": "fear", "doubt": "doubt"}
    folder = label_clips["happy"].parent
    broken = folder / "broken.mp4"
    broken.write_bytes(label_clips["happy"].read_bytes()[:2000])
    rows = [f"{label_clips[label].stem},{name},Well" for label, name in other_names.items()]
    table = tmp_path / "own.csv"
    table.write_text(
        "\n".join(["video_name,emotion_label,transcription", *rows, "broken,sad,", "none,sad,", ""])
    )
    out = tmp_path / "report.json"
    command = ["evaluate", "custom", "--videos", str(folder), "--labels", str(table)]
    command += ["--url", server_url, "--out", str(out)]
    assert main(command) == 3
    report = json.loads(out.read_text())
    assert report["errors"] == {"undecodable_clip": 1, "clip_not_found": 1}
    assert report["num_answered"] == 4
    assert report["scores"]["headline"]["weighted_f1"]["value"] == 1
    assert report["calibration"]["num_rows"] == 4
    assert len(report["provenance"]["model_sha256"]) == 64
    assert "4 of 6 answered" in capsys.readouterr().out

    broken.write_bytes(label_clips["sad"].read_bytes())
    (folder / "none.mp4").write_bytes(label_clips["worried"].read_bytes())
    assert main(command) == 0
    report = json.loads(out.read_text())
    assert report["scores"]["headline"]["accuracy"]["value"] == pytest.approx(5 / 6)
