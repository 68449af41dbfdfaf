"""A model directory is read strictly and its hash covers every file."""

import json
import shutil
from pathlib import Path

import pytest

from serve_app.checkpoint import hash_directory, read_checkpoint
from serve_app.errors import CheckpointError


def test_a_checkpoint_says_its_image_size(tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    assert checkpoint.image_size == 448
    assert checkpoint.directory == tiny_checkpoint.resolve()


@pytest.mark.parametrize("change", ["rename", "edit", "add"])
def test_the_hash_changes_with_any_file(tiny_checkpoint: Path, tmp_path: Path, change: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    assert hash_directory(copy) == hash_directory(tiny_checkpoint)
    config = copy / "config.json"
    if change == "rename":
        config.rename(copy / "config2.json")
    elif change == "edit":
        config.write_text(config.read_text() + " ")
    else:
        (copy / "adapter.json").write_text("{}")
    assert hash_directory(copy) != hash_directory(tiny_checkpoint)


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
        read_checkpoint(tmp_path)
