"""Damaged or ill-matched downloads are refused, and the sentence names tensor and file."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.downloads import Downloads
from safetensors.torch import load_file, save_file

from serve_app.cli import main
from serve_app.convert.config import Geometry
from serve_app.convert.convert import Options, Report
from serve_app.errors import CheckpointError, ConfigurationError

Convert = Callable[..., Report]
LORA = "llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the tensors of a .pth file."""
    content = torch.load(file, weights_only=True)
    change(content.get("model", content))
    torch.save(content, file)


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_missing_lora_tensor_is_named(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    edit(downloads.emotion_llama, lambda tensors: tensors.pop(LORA))
    (problem,) = convert_to(downloads).problems
    assert problem == (
        f"{LORA} is missing in {downloads.emotion_llama}; "
        "needed for language_model.model.layers.1.self_attn.v_proj.weight"
    )
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_lora_is_refused(downloads: Downloads, convert_to: Convert) -> None:
    def drop(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "lora" in name]:
            del tensors[name]

    edit(downloads.emotion_llama, drop)
    problems = convert_to(downloads).problems
    assert problems == [f"no lora_A and no lora_B is in {downloads.emotion_llama}"]


@pytest.mark.parametrize("name", ["feats_llama_proj3.bias", "cls_tk_llama_proj.weight"])
def test_a_missing_projection_is_named(
    downloads: Downloads, convert_to: Convert, name: str
) -> None:
    edit(downloads.emotion_llama, lambda tensors: tensors.pop(name))
    (problem,) = convert_to(downloads).problems
    assert problem.startswith(f"{name} is missing in {downloads.emotion_llama}")


@pytest.mark.parametrize("name", ["cls_token", "blocks.0.attn.q_bias"])
def test_a_missing_tensor_of_eva_is_named(
    downloads: Downloads, convert_to: Convert, name: str
) -> None:
    edit(downloads.eva, lambda tensors: tensors.pop(name))
    try:
        message = "; ".join(convert_to(downloads).problems)
    except CheckpointError as error:  # one that tells a size stops everything at once
        message = error.message
    assert f"{name} is missing in {downloads.eva}" in message


def test_a_missing_shard_is_named(downloads: Downloads, convert_to: Convert) -> None:
    shard = sorted(downloads.llama.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(
        CheckpointError, match=f"{shard.name} does not exist, but .*index.json lists"
    ):
        convert_to(downloads)


def test_a_truncated_shard_is_named_with_its_first_lost_tensor(
    downloads: Downloads, convert_to: Convert
) -> None:
    shard = sorted(downloads.llama.glob("*.safetensors"))[1]
    os.truncate(shard, shard.stat().st_size - 1000)
    with pytest.raises(CheckpointError, match=rf"{shard.name} is truncated: [\w.]+ ends at byte"):
        convert_to(downloads)


@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_a_truncated_pickle_is_named(
    downloads: Downloads, convert_to: Convert, share: float
) -> None:
    os.truncate(downloads.eva, int(downloads.eva.stat().st_size * share))
    with pytest.raises(CheckpointError, match=r"eva_vit_g\.pth"):
        convert_to(downloads)


def test_a_llama_of_another_width_is_named(downloads: Downloads, convert_to: Convert) -> None:
    for file in downloads.llama.glob("*.safetensors"):
        wider = {
            name: torch.cat([t, t], dim=-1) if t.ndim else t for name, t in load_file(file).items()
        }
        save_file({name: t.contiguous() for name, t in wider.items()}, file)
    edit_config(downloads.llama, hidden_size=192, num_attention_heads=6)
    problems = "\n".join(convert_to(downloads).problems)
    assert "projectors.audio.weight needs [192, 64], but they give [96, 64]" in problems
    assert f"feats_llama_proj3.weight [96, 64] in {downloads.emotion_llama}" in problems


def test_a_llama_with_fewer_layers_is_named(downloads: Downloads, convert_to: Convert) -> None:
    edit_config(downloads.llama, num_hidden_layers=2)
    problems = convert_to(downloads).problems
    assert any("model.layers.2.mlp.up_proj.weight" in p and "is not used" in p for p in problems)
    assert any("layers.2.self_attn.q_proj.lora_A" in p and "is not used" in p for p in problems)


@pytest.mark.parametrize(
    ("which", "name"),
    [
        ("emotion_llama", "ln_vision.weight"),
        ("emotion_llama", "feats_llama_proj4.weight"),
        ("emotion_llama", LORA.replace("v_proj.lora_B", "v_proj.lora_embedding_B")),
        ("eva", "blocks.0.gamma_1"),
    ],
)
def test_a_tensor_that_finds_no_place_is_refused_unless_allowed(
    downloads: Downloads, convert_to: Convert, which: str, name: str
) -> None:
    file = getattr(downloads, which)
    edit(file, lambda tensors: tensors.update({name: torch.ones(4)}))
    (problem,) = convert_to(downloads).problems
    assert problem == f"{name} [4] in {file} is not used: the model has no place for it"
    report = convert_to(downloads, options=Options(dtype="fp32", allow_unknown=True))
    assert report.problems == []
    assert any(f.tensor == name and f.verdict == "ignored" for f in report.fates)


def test_a_lost_block_of_eva_is_not_taken_for_a_dropped_one(
    downloads: Downloads, convert_to: Convert
) -> None:
    (downloads.eva.parent / "dims.json").unlink()
    options = Options(geometry=Geometry(eva_num_heads=3))
    with pytest.raises(
        CheckpointError, match=r"do not say the number of blocks, of 3 in .*eva_vit_g"
    ):
        convert_to(downloads, options=options)
    options = Options(geometry=Geometry(eva_num_heads=3, eva_num_blocks=4))
    with pytest.raises(CheckpointError, match="holds 3 blocks; 4 are needed"):
        convert_to(downloads, options=options)


def test_eva_without_a_known_number_of_heads_is_asked_about(
    downloads: Downloads, convert_to: Convert
) -> None:
    (downloads.eva.parent / "dims.json").unlink()
    with pytest.raises(CheckpointError, match=r"do not say the number of heads .*--eva-heads"):
        convert_to(downloads)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (Geometry(image_size=450), "450 is not a multiple of 14"),
        (Geometry(image_size=42), "9 patches do not divide"),
        (Geometry(image_size=0), "image size is 0; it must be a whole number"),
        (Geometry(eva_num_heads=-3), "is -3; it must be a whole number above 0"),
        (Geometry(eva_num_heads=5), "5 heads do not divide the 48 channels"),
        (Geometry(eva_num_blocks=-1), "is -1; it must be a whole number above 0"),
    ],
    ids=str,
)
def test_a_geometry_that_makes_no_sense_is_refused(
    downloads: Downloads, convert_to: Convert, geometry: Geometry, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert_to(downloads, options=Options(geometry=geometry))


@pytest.mark.parametrize("alpha", [0, -3, float("nan"), float("inf")])
def test_an_alpha_that_makes_no_sense_is_refused(
    downloads: Downloads, convert_to: Convert, alpha: float
) -> None:
    with pytest.raises(ConfigurationError, match=f"--lora-alpha is {alpha}"):
        convert_to(downloads, options=Options(lora_alpha=alpha))


def test_ranks_that_differ_are_named(downloads: Downloads, convert_to: Convert) -> None:
    down = LORA.replace("lora_B", "lora_A")
    edit(downloads.emotion_llama, lambda tensors: tensors.update({down: tensors[down][:4]}))
    with pytest.raises(
        CheckpointError, match=r"v_proj\.lora_A\.weight \[4, 96\] in .* not have rank 8"
    ):
        convert_to(downloads)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (
            1e6,
            "fp16",
            r"holds 1e\+06, made from .*Emoation_LLaMA\.pth; float16 holds at most 65504",
        ),
        (float("nan"), "fp32", "holds nan"),
        (float("inf"), "bf16", "holds inf"),
    ],
)
def test_a_number_that_cannot_be_stored_is_named(
    downloads: Downloads,
    convert_to: Convert,
    tmp_path: Path,
    value: float,
    dtype: str,
    message: str,
) -> None:
    edit(downloads.emotion_llama, lambda tensors: tensors["llama_proj.weight"][0].fill_(value))
    with pytest.raises(CheckpointError, match=rf"projectors\.visual\.weight {message}"):
        convert_to(downloads, options=Options(dtype=dtype))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e4m3fn], ids=str)
def test_numbers_that_are_no_floats_are_refused(
    downloads: Downloads, convert_to: Convert, dtype: torch.dtype
) -> None:
    name = "llama_proj.weight"
    edit(downloads.emotion_llama, lambda tensors: tensors.update({name: tensors[name].to(dtype)}))
    (problem,) = convert_to(downloads).problems
    kind = str(dtype).removeprefix("torch.")
    assert problem.endswith(f"is stored as {kind}; only dense floats can be converted")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", "[]"),
        ("config.json", '{"model_type": "llama", "num_attention_heads": 5, "hidden_size": 96}'),
        ("config.json", '{"model_type": "llama", "vocab_size": null}'),
        ("model.safetensors.index.json", "{}"),
        ("model.safetensors.index.json", '{"weight_map": {"a": 1}}'),
        ("tokenizer.model", "no model"),
        ("../dims.json", '{"dims": null}'),
        ("../dims.json", '{"vit_heads": "four"}'),
    ],
    ids=str,
)
def test_a_broken_file_beside_the_weights_is_named(
    downloads: Downloads, convert_to: Convert, file: str, text: str
) -> None:
    (downloads.llama / file).write_text(text)
    with pytest.raises(CheckpointError, match=r"Llama-2-7b-chat-hf|dims\.json"):
        convert_to(downloads)


@pytest.mark.parametrize(("key", "value"), [("do_normalize", False), ("sampling_rate", 8000)])
def test_a_hubert_that_hears_otherwise_is_refused(
    downloads: Downloads, convert_to: Convert, key: str, value: object
) -> None:
    file = downloads.hubert / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(CheckpointError, match=f"preprocessor_config.json has {key} {value!r}"):
        convert_to(downloads)


def test_a_tokenizer_of_another_size_is_named(downloads: Downloads, convert_to: Convert) -> None:
    edit_config(downloads.llama, vocab_size=500)
    problems = "\n".join(convert_to(downloads).problems)
    assert "tokenizer.model has 512 pieces, but config.json has a vocab_size of 500" in problems


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["CODE_RAN"],)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("which", ["eva", "emotion_llama", "hubert"])
def test_code_in_a_pickle_is_refused_and_never_run(
    downloads: Downloads,
    convert_to: Convert,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    is_zip: bool,
) -> None:
    monkeypatch.setenv("CODE_RAN", str(tmp_path / "ran"))
    file = getattr(downloads, which)
    file = file / "pytorch_model.bin" if file.is_dir() else file
    content = torch.load(file, weights_only=True)
    content["extra"] = RunsCode()
    torch.save(content, file, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match=rf"{file.name} .*it names posix\.mkdir; not loaded"):
        convert_to(downloads)
    assert not (tmp_path / "ran").exists()
    assert zipfile.is_zipfile(file) == is_zip


def test_projections_swapped_in_the_source_are_told_by_a_trusted_hash_alone(
    downloads: Downloads, convert_to: Convert, tmp_path: Path
) -> None:
    trusted = frozenset(convert_to(downloads).about["inputs"].values())

    def swap(tensors: dict[str, Any]) -> None:
        face, audio = "feats_llama_proj1.weight", "feats_llama_proj3.weight"
        tensors[face], tensors[audio] = tensors[audio], tensors[face]

    edit(downloads.emotion_llama, swap)
    assert convert_to(downloads, "swapped").problems == []
    options = Options(dtype="fp32", trusted_sha256=trusted)
    (problem,) = convert_to(downloads, "refused", options).problems
    assert problem.startswith(f"{downloads.emotion_llama} has the sha256 ")
    assert not (tmp_path / "refused").exists()


def arguments(downloads: Downloads, out: Path) -> list[str]:
    files = {
        "llama": downloads.llama,
        "eva": downloads.eva,
        "hubert": downloads.hubert,
        "checkpoint": downloads.emotion_llama,
        "out": out,
    }
    return [word for name, path in files.items() for word in (f"--{name}", str(path))]


def test_the_commands_tell_and_exit_accordingly(
    downloads: Downloads, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert main(["convert", *arguments(downloads, out)]) == 0
    printed = capsys.readouterr().out
    assert "used     blocks.{0..1}.attn.qkv.weight" in printed
    assert "if two of them were swapped, no check of names and shapes could tell" in printed
    assert "role: reasoner" in printed
    assert main(["check", str(out)]) == 0
    assert "complete: every tensor is there" in capsys.readouterr().out

    shard = out / "model-00001-of-00005.safetensors"
    tensors = load_file(shard)
    lost, _ = tensors.popitem()
    save_file(tensors, shard)
    assert main(["check", str(out)]) == 1
    errors = capsys.readouterr().err
    assert f"{lost} " in errors
    assert f"is missing in {out}" in errors
    assert f"{shard} has changed: its sha256 is" in errors

    edit(downloads.emotion_llama, lambda tensors: tensors.pop(LORA))
    assert main(["convert", *arguments(downloads, tmp_path / "second")]) == 1
    captured = capsys.readouterr()
    assert f"missing  {LORA}" in captured.out
    assert f"error: {LORA} is missing in {downloads.emotion_llama}" in captured.err
    assert not (tmp_path / "second").exists()


def test_swapped_projections_of_a_converted_directory_are_told_by_its_hash(
    downloads: Downloads, convert_to: Convert, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert_to(downloads)
    (file,) = (
        f
        for f in (tmp_path / "out").glob("*.safetensors")
        if "projectors.face.weight" in load_file(f)
    )
    tensors = load_file(file)
    face, audio = "projectors.face.weight", "projectors.audio.weight"
    tensors[face], tensors[audio] = tensors[audio], tensors[face]
    save_file(tensors, file)
    assert main(["check", str(tmp_path / "out")]) == 1
    assert f"{file} has changed" in capsys.readouterr().err
