"""Downloads in every published form become one complete checkpoint, with each tensor accounted for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.downloads import Downloads, write_downloads
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from serve_app.check import check_tensors, open_checkpoint
from serve_app.checkpoint import read_manifest
from serve_app.convert.convert import UNFINISHED, Options, Report
from serve_app.errors import CheckpointError, ConfigurationError

Convert = Callable[..., Report]
Q_PROJ = "model.layers.1.self_attn.q_proj"
LORA = f"llama_model.base_model.model.{Q_PROJ}"


def load(directory: Path) -> dict[str, torch.Tensor]:
    files = sorted(directory.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def test_a_converted_directory_is_complete(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    report = convert_to(downloads)
    assert report.problems == []
    assert check_tensors(tmp_path / "out") == []
    checkpoint = open_checkpoint(tmp_path / "out")
    assert checkpoint.sha256 == report.sha256
    assert checkpoint.image_size == 448
    assert not (tmp_path / "out.part").exists()


def test_every_tensor_of_every_download_is_accounted_for(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    report = convert_to(downloads)
    told = {(Path(fate.file).name, fate.tensor) for fate in report.fates}
    for file in downloads.llama.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            assert {(file.name, name) for name in tensors.keys()} <= told  # noqa: SIM118
    for file in (downloads.eva, downloads.hubert / "pytorch_model.bin", downloads.emotion_llama):
        content = torch.load(file, weights_only=True)
        assert {(file.name, name) for name in content.get("model", content)} <= told
    assert {fate.verdict for fate in report.fates} == {"used", "ignored"}
    ignored = {fate.tensor: fate.note for fate in report.fates if fate.verdict == "ignored"}
    assert ignored["blocks.2.attn.qkv.weight"] == "the original runs EVA's first 2 blocks"
    assert ignored["masked_spec_embed"] == "only used in training"
    assert "optimizer" in ignored
    assert not any(note == "the model has no place for it" for note in ignored.values())
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert len(manifest["tensors"]) == len(report.fates)
    assert len(manifest["inputs"]) == 10


def test_lora_is_merged_in_float32(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    convert_to(downloads)
    trained = torch.load(downloads.emotion_llama, weights_only=True)["model"]
    base = load(downloads.llama)[f"{Q_PROJ}.weight"].float()
    down, up = trained[f"{LORA}.lora_A.weight"], trained[f"{LORA}.lora_B.weight"]
    merged = load(tmp_path / "out")[f"language_model.{Q_PROJ}.weight"]
    assert torch.equal(merged, base + 16 / len(down) * (up @ down))
    assert not torch.allclose(merged, base, atol=1e-3)


def test_kept_lora_is_an_adapter_beside_the_plain_weights(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    report = convert_to(downloads, options=Options(dtype="fp32", keep_lora=True, lora_alpha=4))
    assert report.problems == []
    checkpoint = open_checkpoint(tmp_path / "out")
    assert checkpoint.adapter is not None
    assert check_tensors(tmp_path / "out") == []
    base = load(downloads.llama)[f"{Q_PROJ}.weight"].float()
    assert torch.equal(load(tmp_path / "out")[f"language_model.{Q_PROJ}.weight"], base)
    adapter = load(checkpoint.adapter)
    trained = torch.load(downloads.emotion_llama, weights_only=True)["model"]
    name = f"base_model.model.language_model.{Q_PROJ}.lora_B.weight"
    assert torch.equal(adapter[name], trained[f"{LORA}.lora_B.weight"])
    config = json.loads((checkpoint.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 4)
    assert config["target_modules"] == ["q_proj", "v_proj"]
    lost = adapter.pop(name)
    save_file(adapter, checkpoint.adapter / "adapter_model.safetensors")
    (problem,) = check_tensors(tmp_path / "out")
    assert problem.startswith(f"{name} in {checkpoint.adapter}")
    assert problem.endswith(f"has the shape None; needed is {tuple(lost.shape)}")


@pytest.mark.parametrize(
    "form",
    [
        {"peft_names": "lora_A.default.weight"},
        {"llama_files": "safetensors"},
        {"llama_files": "bin shards"},
        {"llama_files": "bin"},
        {"hubert_file": "safetensors"},
    ],
    ids=str,
)
def test_every_published_form_gives_the_same_tensors(
    downloads: Downloads, convert_to: Convert, tmp_path: Path, form: dict[str, Any]
) -> None:
    convert_to(downloads)
    other = write_downloads(tmp_path / "other downloads", **form)
    assert convert_to(other, "other").problems == []
    expected, found = load(tmp_path / "out"), load(tmp_path / "other")
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)],
)
def test_the_precision_is_the_asked_one(
    downloads: Downloads, convert_to: Convert, tmp_path: Path, dtype: str, stored: torch.dtype
) -> None:
    convert_to(downloads, options=Options(dtype=dtype))
    assert {tensor.dtype for tensor in load(tmp_path / "out").values()} == {stored}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == str(stored).removeprefix("torch.")


def test_an_existing_folder_is_not_touched(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigurationError, match="out exists already"):
        convert_to(downloads)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupted_conversion_leaves_nothing_that_looks_finished(
    downloads: Downloads, convert_to: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(directory: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("serve_app.convert.convert.write_tokenizer_files", fails)
        with pytest.raises(KeyboardInterrupt):
            convert_to(downloads)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_what_a_killed_conversion_left_is_cleared_and_nothing_else_is(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    part = tmp_path / "out.part"
    part.mkdir()
    (part / "precious").touch()
    with pytest.raises(ConfigurationError, match=r"out\.part is in the way"):
        convert_to(downloads)
    assert (part / "precious").exists()
    (part / UNFINISHED).touch()
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        open_checkpoint(part)
    assert convert_to(downloads).problems == []
    assert not part.exists()


def test_a_folder_that_cannot_be_written_is_named(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file/out cannot be written"):
        convert_to(downloads, "file/out")
