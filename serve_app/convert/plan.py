"""Matches every recipe with the files, by names, shapes and types alone: no tensor is read."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from serve_app.convert.downloads import Downloads
from serve_app.convert.recipes import Lora, Recipe, adapter_recipe, recipe_for
from serve_app.convert.sources import SourceTensor
from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.weights import adapter_shapes, tensor_shapes

INV_FREQ = r".*rotary_emb\.inv_freq"
# Tensors that are not needed, and why, by download and name; for sources see docs/fidelity.md.
IGNORED = {
    "llama": {INV_FREQ: "computed from the config"},
    "eva": {r"(norm|fc_norm|head)\..*": "the original runs EVA without final norm and head"},
    "hubert": {r"(hubert\.)?masked_spec_embed": "only used in training"},
    "checkpoint": {
        INV_FREQ: "computed from the config",
        r"attention\..*": "head for six emotions that the original never runs",
    },
}
# Parts of the model. If a tensor of these has no place, the files are of different models. Other tensors may
# be in the published files although the original never loads them.
OWN_PARTS = {
    "llama": r"(model|lm_head)\..*",
    "eva": r"blocks\..*",
    "hubert": r"(hubert\.)?(encoder|feature_extractor|feature_projection)\..*",
    "checkpoint": r".*",
}
NO_PLACE = "the model has no place for it"


@dataclass(frozen=True, slots=True)
class Output:
    """One tensor of the checkpoint, with everything needed to make it."""

    recipe: Recipe
    shape: tuple[int, ...]
    sources: tuple[SourceTensor, ...]
    shard: str  # the file it is made from; outputs from one file go into one shard

    def make(self) -> torch.Tensor:
        return self.recipe.make(*(source.read() for source in self.sources))


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one tensor of a download."""

    file: str
    tensor: str
    shape: tuple[int, ...]
    verdict: Literal["used", "ignored", "missing"]
    note: str  # its place in the model, why it is ignored, or what it is needed for


@dataclass(slots=True)
class Plan:
    """What a conversion will do. Only a plan without problems can be written."""

    outputs: list[Output] = field(default_factory=list)
    adapter: list[Output] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def make_plan(
    downloads: Downloads,
    config: EmotionLlamaConfig,
    lora: Lora | None,
    keep_lora: bool,
    allow_unknown: bool,
) -> Plan:
    """Makes the plan. Its problems name everything that is missing or does not fit, not just the first."""
    plan = Plan()
    if lora is None:
        plan.problems.append(f"no lora_A and no lora_B is in {downloads.checkpoint.where()}")
    shapes = tensor_shapes(config)
    for name, shape in shapes.items():
        recipe = recipe_for(name, shape, downloads, None if keep_lora else lora)
        _add(plan, plan.outputs, recipe, shape)
    if lora and keep_lora:
        for name, shape in adapter_shapes(shapes, lora.rank, lora.targets).items():
            _add(plan, plan.adapter, adapter_recipe(name, downloads), shape)
    _add_leftovers(plan, downloads, config, allow_unknown)
    return plan


def _add(plan: Plan, outputs: list[Output], recipe: Recipe, shape: tuple[int, ...]) -> None:
    found = [(need, need.find()) for need in recipe.needs]
    for need, tensor in found:
        if tensor is None:
            where, name = need.source.where(), need.names[0]
            plan.fates.append(Fate(where, name, (), "missing", f"needed for {recipe.target}"))
            plan.problems.append(f"{name} is missing in {where}; needed for {recipe.target}")
        else:
            path = str(tensor.file.path)
            plan.fates.append(Fate(path, tensor.name, tensor.shape, "used", recipe.target))
    sources = tuple(tensor for _, tensor in found if tensor is not None)
    if len(sources) < len(found):
        return
    plan.problems += _misfits(recipe, shape, sources)
    # A constant has no source; it goes into the shard of its neighbours.
    place = str(sources[0].file.path) if sources else (outputs[-1].shard if outputs else "")
    outputs.append(Output(recipe, shape, sources, place))


def _misfits(
    recipe: Recipe, shape: tuple[int, ...], sources: Sequence[SourceTensor]
) -> Iterator[str]:
    unusable = [source for source in sources if not source.info.is_float]
    for source in unusable:
        yield f"{source} is stored as {source.info.kind}; only dense floats can be converted"
    if unusable:
        return
    try:
        # On torch's meta device only shapes are computed, without any data.
        made = recipe.make(*(torch.empty(source.shape, device="meta") for source in sources))
        got = f"they give {list(made.shape)}"
        if tuple(made.shape) == shape:
            return
    except (RuntimeError, ValueError, ArithmeticError, IndexError, TypeError):
        got = "they do not fit each other"
    listed = " and ".join(str(source) for source in sources)
    yield f"{recipe.target} needs {list(shape)}, but {got}: {listed}"


def _add_leftovers(
    plan: Plan, downloads: Downloads, config: EmotionLlamaConfig, allow_unknown: bool
) -> None:
    used = {(fate.file, fate.tensor) for fate in plan.fates if fate.verdict == "used"}
    num_blocks = config.vision_config.num_hidden_layers
    for kind, source in downloads.by_kind().items():
        for tensor in source.tensors.values():
            path = str(tensor.file.path)
            if (path, tensor.name) in used:
                continue
            reason = _reason(kind, tensor.name, num_blocks)
            plan.fates.append(Fate(path, tensor.name, tensor.shape, "ignored", reason or NO_PLACE))
            if not (reason or allow_unknown) and re.fullmatch(OWN_PARTS[kind], tensor.name):
                plan.problems.append(f"{tensor} is not used: {NO_PLACE}")
        for file in source.files:
            for name, why in file.leftovers.items():
                plan.fates.append(Fate(str(file.path), name, (), "ignored", why))


def _reason(kind: str, name: str, num_blocks: int) -> str | None:
    """Why a tensor of this download is left out on purpose; None if there is no known reason."""
    block = re.match(r"blocks\.(\d+)\.", name) if kind == "eva" else None
    if block and int(block[1]) >= num_blocks:
        return f"the original runs EVA's first {num_blocks} blocks"
    matching = (why for pattern, why in IGNORED[kind].items() if re.fullmatch(pattern, name))
    return next(matching, None)
