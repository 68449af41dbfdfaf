"""Converts the published downloads: plans everything, then refuses or writes all of it and its manifest."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from serve_app import __version__
from serve_app.checkpoint import ADAPTER, TOKENIZER, hash_file, write_manifest
from serve_app.convert.config import Geometry, derive_config
from serve_app.convert.downloads import Downloads, Paths, open_downloads
from serve_app.convert.plan import Fate, Output, Plan, make_plan
from serve_app.convert.recipes import Lora, find_lora
from serve_app.convert.roles import role_of
from serve_app.convert.tokenizer_files import write_tokenizer_files
from serve_app.convert.writer import write_safetensors
from serve_app.errors import CheckpointError, ConfigurationError
from serve_app.model.config import EmotionLlamaConfig
from serve_app.tokenizer import Tokenizer

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PUBLISHED_LORA_ALPHA = 16.0
PUBLISHED_GEOMETRY = Geometry()
# A file in OUT.part: tells leftovers of a conversion from a folder of the user's.
UNFINISHED = "conversion-not-finished"


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may choose."""

    dtype: str = "fp16"
    lora_alpha: float = PUBLISHED_LORA_ALPHA
    lora_rank: int | None = None  # None: accept the tensors' rank
    keep_lora: bool = False
    allow_unknown: bool = False  # list tensors that have no place instead of refusing them
    geometry: Geometry = PUBLISHED_GEOMETRY
    trusted_sha256: frozenset[str] = frozenset()  # hashes of inputs; empty accepts any


@dataclass(frozen=True, slots=True)
class Report:
    """What became of every tensor, and what it was made from."""

    fates: list[Fate]
    problems: list[str]
    about: dict[str, Any]  # what the manifest says besides the hashes of its files
    sha256: str | None  # hash of the result; None if it was not written


def convert(paths: Paths, out: Path, options: Options) -> Report:
    """Writes `out` if nothing that it needs is missing; otherwise the report's `problems` say why not.

    An interrupted run leaves no `out`. One that is killed leaves `OUT.part`, which the next run removes.

    Raises:
        CheckpointError: a download cannot be opened, or holds a number that the result cannot represent.
        ConfigurationError: `out` exists already or cannot be written, or an option is invalid.
    """
    if not (math.isfinite(options.lora_alpha) and options.lora_alpha > 0):
        raise ConfigurationError(f"--lora-alpha is {options.lora_alpha}; it must be above 0")
    if out.exists() or out.is_symlink():
        raise ConfigurationError(f"{out} exists already; remove it or name another folder")
    downloads = open_downloads(paths)
    config = derive_config(downloads, options.geometry, _dtype_name(options))
    lora = find_lora(downloads.checkpoint, options.lora_alpha)
    plan = make_plan(downloads, config, lora, options.keep_lora, options.allow_unknown)
    problems = [*plan.problems, *_tokenizer_problems(paths, config)]
    if lora and options.lora_rank not in (None, lora.rank):
        problems.append(f"LoRA has rank {lora.rank} in {paths.checkpoint}, not {options.lora_rank}")
    about = _about(downloads, config, options, lora)
    problems += _untrusted(about["inputs"], options.trusted_sha256)
    if problems:
        return Report(plan.fates, problems, about, sha256=None)
    try:
        part = _begin(out)
        try:
            _write(plan, config, lora, downloads, part, options)
            (part / UNFINISHED).unlink()
            manifest = write_manifest(part, about | {"tensors": _as_rows(plan.fates)})
            part.rename(out)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error}") from error
    return Report(plan.fates, problems, about, manifest["sha256"])


def _begin(out: Path) -> Path:
    part = out.with_name(f"{out.name}.part")
    if part.exists() and not (part / UNFINISHED).is_file():
        raise ConfigurationError(f"{part} is in the way, and no conversion left it there")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / UNFINISHED).touch()
    return part


def _write(
    plan: Plan,
    config: EmotionLlamaConfig,
    lora: Lora | None,
    downloads: Downloads,
    out: Path,
    options: Options,
) -> None:
    num_tensors = len(plan.outputs) + len(plan.adapter)
    with tqdm(total=num_tensors, unit="tensor", desc="converting") as progress:
        _write_shards(plan.outputs, downloads, out, DTYPES[options.dtype], progress)
        if plan.adapter:
            assert lora is not None
            _write_adapter(plan.adapter, lora, out / ADAPTER, progress)
    shutil.copyfile(downloads.paths.tokenizer, out / TOKENIZER)
    write_tokenizer_files(out)
    config.save_pretrained(out)


def _write_shards(
    outputs: list[Output],
    downloads: Downloads,
    out: Path,
    dtype: torch.dtype,
    progress: "tqdm[Any]",
) -> None:
    """Writes one shard for each source file, so that each source is read once and then released."""
    in_order = sorted(outputs, key=attrgetter("shard"))
    shards = [list(group) for _, group in groupby(in_order, key=attrgetter("shard"))]
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        shapes = {output.recipe.target: output.shape for output in shard}
        write_safetensors(out / name, shapes, dtype, _make(shard, dtype, progress))
        places |= dict.fromkeys(shapes, name)
        downloads.release()
    index = {"metadata": {}, "weight_map": places}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def _write_adapter(outputs: list[Output], lora: Lora, out: Path, progress: "tqdm[Any]") -> None:
    """Writes LoRA as a PEFT adapter, in float32, as it was trained."""
    out.mkdir()
    shapes = {output.recipe.target: output.shape for output in outputs}
    tensors = _make(outputs, torch.float32, progress)
    write_safetensors(out / "adapter_model.safetensors", shapes, torch.float32, tensors)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": sorted(lora.targets),
        "bias": "none",
    }
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1))


def _make(
    outputs: list[Output], dtype: torch.dtype, progress: "tqdm[Any]"
) -> Iterator[torch.Tensor]:
    """Makes and converts the tensors one by one.

    Raises:
        CheckpointError: a number is not finite, or too large for the type.
    """
    for output in outputs:
        made = output.make()
        converted = made.to(dtype)
        if not converted.isfinite().all():
            sources = " and ".join(map(str, output.sources))
            largest = made.double().abs().max().item()
            kind = str(dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{output.recipe.target} holds {largest:g}, made from {sources}; {kind} holds at most "
                f"{torch.finfo(dtype).max:g} (--dtype)"
            )
        yield converted
        progress.update()


def _dtype_name(options: Options) -> str:
    return str(DTYPES[options.dtype]).removeprefix("torch.")


def _tokenizer_problems(paths: Paths, config: EmotionLlamaConfig) -> Iterator[str]:
    if not paths.tokenizer.is_file():
        yield f"{paths.tokenizer} is missing"
        return
    try:
        num_pieces = Tokenizer(paths.llama).num_pieces
    except Exception as error:  # the errors of sentencepiece and protobuf share no base class
        raise CheckpointError(f"{paths.tokenizer} is not a sentencepiece model: {error}") from error
    vocab_size = config.text_config.vocab_size
    if num_pieces != vocab_size:
        yield (
            f"{paths.tokenizer} has {num_pieces} pieces, "
            f"but config.json has a vocab_size of {vocab_size}"
        )


def _about(
    downloads: Downloads, config: EmotionLlamaConfig, options: Options, lora: Lora | None
) -> dict[str, Any]:
    merged = {"merged": not options.keep_lora}
    return {
        "converter": __version__,
        "dtype": options.dtype,
        "lora": lora and asdict(lora) | {"targets": sorted(lora.targets)} | merged,
        "vision": {
            "image_size": config.image_size,
            "num_blocks": config.vision_config.num_hidden_layers,
            "num_heads": config.vision_config.num_attention_heads,
        },
        "role": role_of(downloads.paths.checkpoint),
        "inputs": {str(path): hash_file(path) for path in downloads.files()},
    }


def _untrusted(inputs: Mapping[str, str], trusted: frozenset[str]) -> Iterator[str]:
    """A problem for each input whose hash is not among the trusted ones."""
    for path, digest in inputs.items() if trusted else ():
        if digest not in trusted:
            yield f"{path} has the sha256 {digest}, which is not among the trusted ones"


def _as_rows(fates: list[Fate]) -> list[list[Any]]:
    return [[f.file, f.tensor, list(f.shape), f.verdict, f.note] for f in fates]
