"""Mistakes on the command line: one sentence on stderr and the right exit status."""

import shutil
import socket
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

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


@pytest.mark.parametrize("has_manifest", [True, False])
def test_the_server_does_not_start_on_a_damaged_checkpoint_and_names_the_tensor(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    has_manifest: bool,
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    tensors = load_file(copy / "model.safetensors")
    del tensors["projectors.audio.bias"]
    tensors["projectors.cls.bias"] = tensors["projectors.cls.bias"][:1]
    tensors["projectors.mouth.bias"] = tensors["projectors.face.bias"]
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()}, copy / "model.safetensors"
    )
    if not has_manifest:
        (copy / "manifest.json").unlink()
    assert main(["serve", "--config", LAPTOP, "--model", str(copy)]) == 1
    error = capsys.readouterr().err
    told = "has changed: its sha256 is" if has_manifest else "manifest.json is missing"
    assert told in error
    assert f"projectors.audio.bias [64] is missing in {copy}" in error
    assert "projectors.cls.bias in" in error and "has the shape [1]; needed is [64]" in error
    assert "projectors.mouth.bias [64] in" in error and "is no tensor of this model" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give CLIP and QUESTION, or --requests"),
        (["clip.mp4"], "give CLIP and QUESTION, or --requests"),
        (["clip.mp4", "what?", "--requests", "r.jsonl"], "give CLIP and QUESTION, or --requests"),
        (["--requests", "/none.jsonl"], "--requests /none.jsonl: "),
        (["--requests", LAPTOP, "--concurrency", "0"], "--concurrency is 0; at least 1"),
        (["clip.mp4", "--requests", LAPTOP], "give CLIP and QUESTION, or --requests"),
        (["clip.mp4", "what?", "--url", "nonsense"], "--url nonsense: "),
        (["clip.mp4", "what?", "--temperature", "nan"], "temperature: "),
        (["a\0b", "what?"], "is not a path"),
        (["clip.mp4", "what?", "--features", "/none.npz"], "features: /none.npz cannot be read"),
        (["clip.mp4", "what?", "--features", LAPTOP], f"features: {LAPTOP}: the npz cannot"),
    ],
    ids=str,
)
def test_asking_without_sense_is_the_callers_fault(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", *arguments]) == 2
    assert message in capsys.readouterr().err
