"""`emotion-llama evaluate` through the real server: the demonstration's tests, and a folder of one's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.cli import main

NUM_CLIPS = 45  # of `make demo-report`'s 300
SEED = 6_000_000


@pytest.fixture(scope="module")
def report(server_url: str, clips_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of fresh clips: no training's, and not the card's."""
    out = tmp_path_factory.mktemp("report") / "demo.json"
    options = ["--clips", str(NUM_CLIPS), "--seed", str(SEED), "--videos", str(clips_root / "demo")]
    status = main(["evaluate", "demo", "--url", server_url, *options, "--out", str(out)])
    assert status == 0, "a limit was missed, or a case was not answered"
    assert out.with_suffix(".confusion.png").stat().st_size > 5000
    assert out.with_suffix(".reliability.png").stat().st_size > 5000
    return json.loads(out.read_text())


def scores(report: Any, name: str) -> dict[str, Any]:
    (test,) = [test for test in report["tests"] if test["test"] == name]
    return dict(test)


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("`[emotion]`", 0.95),  # 43 of 45
        ("trained wordings, Chinese", 0.95),
        ("white noise at 10 dB", 0.9),
        ("sound of another clip", 0.93),
        ("face of another clip", 0.93),
        ("`[reason]`: all three", 0.93),
        ("`[reason]`, Chinese: all three", 0.93),
        ("no sound track, the words decide", 0.8),
    ],
)
def test_it_sees_hears_and_explains(report: Any, name: str, at_least: float) -> None:
    assert scores(report, name)["score"] >= at_least


@pytest.mark.parametrize(
    "name",
    [
        "no sound track",
        "no sound track: sad/worried, surprise/fear",
        "silent sound track: sad/worried, surprise/fear",
        "no picture",
        "no picture: neutral/contempt/doubt, worried/fear",
        "black picture: neutral/contempt/doubt, worried/fear",
    ],
)
def test_without_a_modality_it_knows_no_more_than_the_rest_can_tell(report: Any, name: str) -> None:
    assert scores(report, name)["passed"], scores(report, name)


def test_every_case_was_answered_and_its_probabilities_are_calibrated(report: Any) -> None:
    assert report["errors"] == {}
    assert report["num_answered"] == report["num_cases"] > 15 * NUM_CLIPS
    assert report["calibration"]["num_rows"] == NUM_CLIPS
    assert report["calibration"]["ece"] < 0.06
    assert report["provenance"]["dtype"] == "float32"


def test_a_folder_of_ones_own(
    server_url: str,
    clips_root: Path,
    label_clips: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Labels by other names, a clip that is broken, one that is not there; then again, mended."""
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
