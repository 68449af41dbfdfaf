"""A model directory is read strictly and its hash covers every file."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve_app.check import open_checkpoint
from serve_app.checkpoint import (
    MANIFEST,
    combine_hashes,
    hash_files,
    read_tensor_header,
)
from serve_app.cli import main
from serve_app.errors import CheckpointError


def test_a_checkpoint_says_its_image_size(tiny_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint)
    assert checkpoint.image_size == 448
    assert checkpoint.directory == tiny_checkpoint.resolve()


@pytest.mark.parametrize("change", ["rename", "edit", "add"])
def test_the_hash_changes_with_any_file(tiny_checkpoint: Path, tmp_path: Path, change: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    assert hash_files(copy) == hash_files(tiny_checkpoint)
    config = copy / "config.json"
    if change == "rename":
        config.rename(copy / "config2.json")
    elif change == "edit":
        config.write_text(config.read_text() + " ")
    else:
        (copy / "adapter.json").write_text("{}")
    assert combine_hashes(hash_files(copy)) != combine_hashes(hash_files(tiny_checkpoint))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("edit", "config.json has changed: its sha256 is"),
        ("remove", "tokenizer_config.json is missing"),
        ("add", "extra.safetensors is not in manifest.json"),
    ],
)
def test_a_directory_that_is_not_its_manifests_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, change: str, message: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    (copy / "README.md").write_text("does no harm")
    open_checkpoint(copy)
    if change == "edit":
        (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    elif change == "remove":
        (copy / "tokenizer_config.json").unlink()
    else:
        shutil.copyfile(copy / "model.safetensors", copy / "extra.safetensors")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(copy)


def test_a_directory_without_manifest_was_not_finished(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    (copy / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing: .* not finished"):
        open_checkpoint(copy)
    assert main(["check", str(copy), "--write-manifest"]) == 0
    assert open_checkpoint(copy).sha256 == open_checkpoint(tiny_checkpoint).sha256


def test_an_incomplete_directory_gets_no_manifest(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    (copy / MANIFEST).unlink()
    tensors = load_file(copy / "model.safetensors")
    del tensors["projectors.audio.bias"]
    save_file(tensors, copy / "model.safetensors")
    assert main(["check", str(copy), "--write-manifest"]) == 1
    assert not (copy / MANIFEST).exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"files": [1]}', '{"files": {}, "sha256": "0"}']
)
def test_a_damaged_manifest_is_named(tiny_checkpoint: Path, tmp_path: Path, text: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    (copy / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json (is damaged|has changed)"):
        open_checkpoint(copy)


def test_numbers_that_are_no_floats_are_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["projectors.audio.bias"] = tensors["projectors.audio.bias"].to(torch.int8)
    save_file(tensors, copy / "model.safetensors")
    (copy / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=r"audio\.bias in .* is stored as I8, not as floats"):
        open_checkpoint(copy)


def test_a_dangling_link_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    (copy / "more.safetensors").symlink_to(copy / "none")
    with pytest.raises(CheckpointError, match=r"more\.safetensors cannot be read"):
        open_checkpoint(copy)


def test_a_truncated_file_is_told_with_its_first_lost_tensor(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    whole = tiny_checkpoint / "model.safetensors"
    entry = read_tensor_header(whole)["projectors.cls.bias"]
    assert (entry.shape, entry.dtype) == ((64,), "F32")
    data = whole.read_bytes()
    part = tmp_path / "part.safetensors"
    part.write_bytes(data[:-10])
    with pytest.raises(
        CheckpointError, match=r"part\.safetensors is truncated: [\w.]+ ends at byte"
    ):
        read_tensor_header(part)
    for length in (4, 100):
        part.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="truncated in its header"):
            read_tensor_header(part)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "does not exist"),
        ("{", "is not JSON"),
        ({"model_type": "llama"}, "model_type 'llama'; expected 'emotion_llama'"),
        ({"model_type": "emotion_llama"}, "vision_config.image_size None, not a number"),
        ({"model_type": "emotion_llama", "vision_config": []}, "image_size None, not a number"),
        ([], "model_type None; expected"),
        ({"model_type": "emotion_llama", "vision_config": {"image_size": 448}}, "no .safetensors"),
    ],
    ids=[
        "absent",
        "broken",
        "another model",
        "no vision tower",
        "odd vision tower",
        "no object",
        "no weights",
    ],
)
def test_a_directory_that_cannot_be_served_is_refused(
    tmp_path: Path, config: object, message: str
) -> None:
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)
