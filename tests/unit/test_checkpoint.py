"""A model directory is read strictly and its hash covers every file."""

import json
import shutil
from pathlib import Path

import pytest

from serve_app.check import open_checkpoint
from serve_app.checkpoint import (
    MANIFEST,
    combine_hashes,
    hash_files,
    read_tensor_header,
    write_manifest,
)
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


def test_a_directory_without_manifest_is_taken_as_it_is(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    (copy / MANIFEST).unlink()
    without = open_checkpoint(copy)
    assert without.sha256 == open_checkpoint(tiny_checkpoint).sha256
    write_manifest(copy, {})
    assert open_checkpoint(copy).sha256 == without.sha256
    (copy / MANIFEST).write_text("{")
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        open_checkpoint(copy)


def test_a_truncated_file_is_told_with_its_first_lost_tensor(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    whole = tiny_checkpoint / "model.safetensors"
    shapes = read_tensor_header(whole)
    assert shapes["projectors.cls.bias"] == (64,)
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
        ({"model_type": "emotion_llama"}, "lacks the key vision_config.image_size"),
        ({"model_type": "emotion_llama", "vision_config": {"image_size": 448}}, "no .safetensors"),
    ],
    ids=["absent", "broken", "another model", "no vision tower", "no weights"],
)
def test_a_directory_that_cannot_be_served_is_refused(
    tmp_path: Path, config: object, message: str
) -> None:
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)
