"""The command line's own mistakes: one sentence on stderr and the right exit status."""

import socket
from pathlib import Path

import pytest

from serve_app.cli import main

LAPTOP = str(Path(__file__).parents[2] / "configs" / "serve.yaml")


def test_a_missing_config_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", "/none.yaml"]) == 1
    assert "error: Configuration error: /none.yaml" in capsys.readouterr().err


def test_a_missing_model_is_named_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--config", LAPTOP, "--model", str(tmp_path / "none")]) == 1
    assert f"{tmp_path}/none/config.json does not exist" in capsys.readouterr().err


def test_a_taken_port_is_named(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ["--config", LAPTOP, "--model", str(tiny_checkpoint), "--port", str(port)]
        assert main(["serve", *arguments]) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_asking_where_nobody_listens_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "clip.mp4", "what?", "--url", "http://127.0.0.1:9"]) == 1
    assert "no server answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_asking_the_engine_for_nonsense_is_the_callers_fault(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["ask", "clip.mp4", "what?", "--model", str(tiny_checkpoint), "--temperature", "9"]
    assert main(asked) == 2
    assert "temperature" in capsys.readouterr().err


def test_an_unknown_command_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["server"])
    assert stopped.value.code == 2
    assert "usage: emotion-llama" in capsys.readouterr().err
