"""Every recipe against the files that are there, by names and shapes alone: no tensor is read."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from serve_app.convert.downloads import Downloads
from serve_app.convert.recipes import (
    LORA_KEY,
    Lora,
    Recipe,
    adapter_recipe,
    recipe_for,
)
from serve_app.convert.sources import Source, SourceTensor
from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.weights import adapter_shapes, tensor_shapes

# Why a tensor is of no use, by its name; sources: docs/fidelity.md.
IGNORED = {
    r".*rotary_emb\.inv_freq": "computed from the config",
    r"attention\..*": "head for six emotions that the original never runs",
    r"blocks\..*": "the original drops EVA's last block",
    r"(norm|fc_norm|head)\..*": "the original runs EVA without final norm and head",
    r"(hubert\.)?masked_spec_embed": "used in training alone",
}
UNKNOWN = "the model has no such tensor"


@dataclass(frozen=True, slots=True)
class Output:
    """One tensor of the checkpoint, with all it takes to make it."""

    recipe: Recipe
    shape: tuple[int, ...]
    sources: tuple[SourceTensor, ...]
    shard: str  # outputs of one shard are made from one file

    def make(self) -> torch.Tensor:
        return self.recipe.make(*(source.read() for source in self.sources))


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one tensor of a download."""

    file: str
    tensor: str
    shape: tuple[int, ...]
    verdict: Literal["used", "ignored", "missing"]
    note: str  # where it goes, why it does not, what lacks it


@dataclass(frozen=True, slots=True)
class Plan:
    """What a conversion will do. Only one without problems can be written."""

    outputs: list[Output]
    adapter: list[Output]
    fates: list[Fate]
    problems: list[str]


def make_plan(
    downloads: Downloads, config: EmotionLlamaConfig, lora: Lora | None, keep_lora: bool
) -> Plan:
    """Names everything that is missing, not just the first."""
    shapes = tensor_shapes(config)
    merged = None if keep_lora else lora
    wanted = [(recipe_for(n, s, downloads, merged), s) for n, s in shapes.items()]
    adapter = adapter_shapes(shapes, lora.rank, lora.targets) if lora and keep_lora else {}
    adapter_wanted = [(adapter_recipe(n, downloads), s) for n, s in adapter.items()]

    fates: list[Fate] = []
    problems: list[str] = []
    if lora is None:
        problems.append(f"no lora_A and no lora_B is in {downloads.checkpoint.where()}")
    outputs = list(_resolve(wanted, fates, problems))
    adapter_outputs = list(_resolve(adapter_wanted, fates, problems))
    used = {(str(f.file), f.tensor) for f in fates if f.verdict == "used"}
    for source in (downloads.llama, downloads.eva, downloads.hubert, downloads.checkpoint):
        leftovers = [t for t in source.tensors.values() if (str(t.file.path), t.name) not in used]
        fates += _ignore(source, leftovers)
        problems += _suspicious(leftovers, config)
    return Plan(outputs, adapter_outputs, fates, problems)


def _resolve(
    wanted: Iterable[tuple[Recipe, tuple[int, ...]]], fates: list[Fate], problems: list[str]
) -> Iterator[Output]:
    shard = ""
    for recipe, shape in wanted:
        found = [need.find() for need in recipe.needs]
        for need, tensor in zip(recipe.needs, found, strict=True):
            if tensor is None:
                where, name = need.source.where(), need.names[0]
                fates.append(Fate(where, name, (), "missing", f"needed for {recipe.target}"))
                problems.append(f"{name} is missing in {where}; needed for {recipe.target}")
            else:
                path = str(tensor.file.path)
                fates.append(Fate(path, tensor.name, tensor.shape, "used", recipe.target))
        sources = tuple(tensor for tensor in found if tensor is not None)
        if len(sources) == len(recipe.needs):
            problem = _misfit(recipe, shape, sources)
            problems += [problem] if problem else []
            # A constant goes where its neighbours go.
            shard = str(sources[0].file.path) if sources else shard
            yield Output(recipe, shape, sources, shard)


def _misfit(recipe: Recipe, shape: tuple[int, ...], sources: Sequence[SourceTensor]) -> str | None:
    try:
        # torch works shapes out on its meta device, without any data.
        made = recipe.make(*(torch.empty(source.shape, device="meta") for source in sources))
        got = f"they give {list(made.shape)}"
        if tuple(made.shape) == shape:
            return None
    except (RuntimeError, IndexError, TypeError):
        got = "they do not fit each other"
    listed = " and ".join(str(source) for source in sources)
    return f"{recipe.target} needs {list(shape)}, but {got}: {listed}"


def _ignore(source: Source, leftovers: Iterable[SourceTensor]) -> Iterator[Fate]:
    for tensor in leftovers:
        reasons = (why for pattern, why in IGNORED.items() if re.fullmatch(pattern, tensor.name))
        note = next(reasons, UNKNOWN)
        yield Fate(str(tensor.file.path), tensor.name, tensor.shape, "ignored", note)
    for file in source.files:
        for name, why in file.leftovers.items():
            yield Fate(str(file.path), name, (), "ignored", why)


def _suspicious(leftovers: Iterable[SourceTensor], config: EmotionLlamaConfig) -> Iterator[str]:
    """Tensors that nobody drops on purpose: the files belong to models of different sizes."""
    for tensor in leftovers:
        if LORA_KEY.match(tensor.name):
            num_layers = config.text_config.num_hidden_layers
            yield f"{tensor} changes no tensor of this LLaMA, which has {num_layers} layers"
        elif re.match(r"(model|hubert\.encoder|encoder)\.layers\.\d+\.", tensor.name) and not (
            re.fullmatch(r".*rotary_emb\.inv_freq", tensor.name)
        ):
            yield f"{tensor} is of no layer that the config.json beside it lists"
