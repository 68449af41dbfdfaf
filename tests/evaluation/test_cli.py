"""The command's own mistakes: one sentence, exit status 2, and nothing started or written."""

from pathlib import Path

import pytest

from serve_app.cli import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mer2023"], "mer2023 needs --videos"),
        (["custom", "--videos", "{folder}"], "custom needs --labels"),
        (["custom", "--videos", "{folder}/none", "--labels", "x.csv"], "is not a folder"),
        (["custom", "--videos", "{folder}", "--labels", "{folder}/none.csv"], "No such file"),
        (["dfew", "--videos", "{folder}", "--labels", "x", "--label-set", "a,b"], "is for custom"),
        (["demo", "--labels", "x.csv"], "demo makes its own clips"),
        (["demo", "--clips", "0"], "--clips is 0"),
        (["demo", "--concurrency", "0"], "--concurrency is 0"),
        (["emer", "--videos", "{folder}", "--labels", "x", "--baseline", "b.csv"], "--judge-url"),
        (
            ["emer", "--judge-url", "http://127.0.0.1:9/v1", "--judge-key-env", "NO_SUCH_VARIABLE"],
            "NO_SUCH_VARIABLE is not set",
        ),
    ],
)
def test_a_wrong_option_is_named(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [option.format(folder=tmp_path) for option in options]
    assert main(["evaluate", *filled, "--out", str(tmp_path / "report.json")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["report.txt", "none/report.json"])
def test_the_report_needs_a_place(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "demo", "--out", str(tmp_path / out)]) == 2
    assert "expected a .json file in a folder that exists" in capsys.readouterr().err
