"""Wrong use of the command: one sentence, exit status 2, and nothing started or written."""

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
        (["dfew", "--label-set", "a,b"], "--label-set is not for dfew"),
        (["demo", "--labels", "x.csv"], "--labels is not for demo"),
        (["dfew", "--features", "{folder}"], "--features is not for dfew"),
        (["custom", "--baseline", "x.csv"], "--baseline is not for custom"),
        (["demo", "--clips", "8"], "--clips is 8, at least 9"),
        (["demo", "--videos", "/dev/null"], "--videos /dev/null: File exists"),
        (["demo", "--concurrency", "0"], "--concurrency is 0"),
        (["emer", "--videos", "{folder}", "--labels", "x", "--baseline", "b.csv"], "--judge-url"),
        (
            [
                *("emer", "--videos", "{folder}", "--labels", "x", "--judge-url", "http://x/v1"),
                *("--judge-key-env", "NO_SUCH_VARIABLE"),
            ],
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


@pytest.mark.parametrize("name", ["labels", "transcripts", "baseline"])
def test_no_file_that_was_given_is_overwritten(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """EMER writes descriptions beside its report."""
    given = tmp_path / "emer.descriptions.csv"
    given.write_text("names,chi_reasons\na,she smiles\n")
    files = {"labels": tmp_path / "labels.csv", name: given}
    options = [word for option, path in files.items() for word in (f"--{option}", str(path))]
    command = ["evaluate", "emer", "--videos", str(tmp_path), *options]
    assert main([*command, "--out", str(tmp_path / "emer.json")]) == 2
    assert f"--{name} {given} would be overwritten" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").touch()
    table = tmp_path / "own.csv"
    table.write_text("name,label\na,sad\n")
    command = ["evaluate", "custom", "--videos", str(tmp_path), "--labels", str(table)]
    assert main([*command, "--url", "http://127.0.0.1:9", "--out", str(tmp_path / "r.json")]) == 1
    assert "no server answers at http://127.0.0.1:9" in capsys.readouterr().err
