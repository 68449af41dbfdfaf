"""Recipes: how each tensor of the checkpoint is made from tensors of the downloads.

They follow the original's code: minigpt_base.py (LoRA), eva_vit.py (position embedding, qkv bias),
minigpt_v2.py (projections). No download contains `ln_vision`; the original leaves it at 1 and 0.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from serve_app.convert.downloads import Downloads
from serve_app.convert.sources import Source, SourceTensor
from serve_app.errors import CheckpointError
from serve_app.model.weights import is_adapted

LORA_PREFIX = "llama_model.base_model.model."
# The original's targets; others in the checkpoint are used too.
LORA_TARGETS = frozenset({"q_proj", "v_proj"})
LORA_KEY = re.compile(r"(.+\.(\w+))\.lora_([AB])(?:\.default)?\.weight$")

PROJECTORS = {
    "visual": "llama_proj",
    "face": "feats_llama_proj1",
    "temporal": "feats_llama_proj2",
    "audio": "feats_llama_proj3",
    "cls": "cls_tk_llama_proj",
}
EVA_NAMES = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.": "patch_embed.proj.",
}
EVA_BLOCK_NAMES = {
    "self_attn.qkv.weight": "attn.qkv.weight",
    "self_attn.projection.": "attn.proj.",
    "layer_norm1.": "norm1.",
    "layer_norm2.": "norm2.",
    "mlp.": "mlp.",
}
# PyTorch's two forms of weight normalisation: magnitude and direction.
WEIGHT_NORM_NAMES = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}


@dataclass(frozen=True, slots=True)
class Need:
    """A tensor that a recipe needs, under any of these names in a download."""

    source: Source
    names: tuple[str, ...]

    def find(self) -> SourceTensor | None:
        return next((self.source.tensors[n] for n in self.names if n in self.source.tensors), None)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one tensor. `make` gets the needed tensors in order; it must also work on meta tensors."""

    target: str
    needs: tuple[Need, ...]
    make: Callable[..., Tensor]


def unchanged(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True, slots=True)
class Lora:
    """The LoRA adapter inside the downloaded checkpoint."""

    rank: int
    alpha: float
    targets: frozenset[str]

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank

    def merge(self, weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """W + alpha / r * B @ A, in float32."""
        return weight.float() + self.scaling * (up.float() @ down.float())


def recipe_for(
    target: str, shape: tuple[int, ...], downloads: Downloads, lora: Lora | None
) -> Recipe:
    """The recipe of one tensor of the checkpoint.

    Args:
        lora: merged into LLaMA's weights; None leaves them as they are.
    """
    part, _, name = target.partition(".")
    if part == "language_model":
        return _llama(target, name, downloads, lora)
    if part == "vision_tower":
        return _eva(target, name, shape, downloads.eva)
    if part == "audio_tower":
        return _hubert(target, name, downloads.hubert)
    assert part == "projectors", f"{target} belongs to no part of the downloads"
    projector, _, kind = name.partition(".")
    names = (f"{PROJECTORS[projector]}.{kind}",)
    return Recipe(target, (Need(downloads.checkpoint, names),), unchanged)


def adapter_recipe(target: str, downloads: Downloads) -> Recipe:
    """The recipe of one tensor of a PEFT adapter over the checkpoint's LLaMA."""
    name = target.removeprefix("base_model.model.language_model.")
    return Recipe(target, (_lora_need(name, downloads.checkpoint),), unchanged)


def _llama(target: str, name: str, downloads: Downloads, lora: Lora | None) -> Recipe:
    base = Need(downloads.llama, (name,))
    if lora is None or not is_adapted(target, lora.targets):
        return Recipe(target, (base,), unchanged)
    module = name.removesuffix(".weight")
    down, up = (_lora_need(f"{module}.lora_{k}.weight", downloads.checkpoint) for k in "AB")
    return Recipe(target, (base, down, up), lora.merge)


def _lora_need(name: str, checkpoint: Source) -> Need:
    """LoRA's A or B of one LLaMA weight, under PEFT's old or new name."""
    old = LORA_PREFIX + name
    return Need(checkpoint, (old, f"{old.removesuffix('.weight')}.default.weight"))


def _eva(target: str, name: str, shape: tuple[int, ...], eva: Source) -> Recipe:
    if name.startswith("post_layernorm."):
        value = 1.0 if name.endswith("weight") else 0.0
        return Recipe(target, (), lambda: torch.full(shape, value))
    if name == "embeddings.position_embedding":
        return Recipe(
            target, (Need(eva, ("pos_embed",)),), lambda rows: resize_positions(rows, shape[1])
        )
    block = re.match(r"encoder\.layers\.(\d+)\.(.+)", name)
    if block is None:
        return Recipe(target, (Need(eva, (_rename(name, EVA_NAMES),)),), unchanged)
    prefix, inner = f"blocks.{block[1]}.", block[2]
    if inner == "self_attn.qkv.bias":
        needs = tuple(Need(eva, (f"{prefix}attn.{kind}_bias",)) for kind in "qv")
        return Recipe(target, needs, join_qkv_bias)
    return Recipe(target, (Need(eva, (prefix + _rename(inner, EVA_BLOCK_NAMES),)),), unchanged)


def _hubert(target: str, name: str, hubert: Source) -> Recipe:
    names = (name, _rename(name, WEIGHT_NORM_NAMES))
    return Recipe(
        target, (Need(hubert, (*names, *(f"hubert.{name}" for name in names))),), unchanged
    )


def _rename(name: str, table: dict[str, str]) -> str:
    for new, old in table.items():
        if new in name:
            return name.replace(new, old)
    return name


def join_qkv_bias(q_bias: Tensor, v_bias: Tensor) -> Tensor:
    """Joins q and v biases with zeros between them: EVA's keys have no bias."""
    return torch.cat([q_bias, torch.zeros_like(v_bias), v_bias])


def resize_positions(rows: Tensor, num_positions: int) -> Tensor:
    """(1, 1 + n * n, width) -> (1, num_positions, width), bicubic; the row of CLS stays as it is."""
    old, new = position_grid(rows.shape[1]), position_grid(num_positions)
    if old == new:
        return rows
    grid = rows[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([rows[:, :1].float(), resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def position_grid(num_positions: int) -> int:
    """Side of the square grid of patches of a position embedding, whose first row is for CLS."""
    return isqrt(num_positions - 1)


def find_lora(checkpoint: Source, alpha: float) -> Lora | None:
    """Finds rank and targets in the names and shapes of the checkpoint; None if it has no LoRA.

    Raises:
        CheckpointError: the tensors have different ranks, or a rank of 0.
    """
    found = [(LORA_KEY.match(name), tensor) for name, tensor in checkpoint.tensors.items()]
    downs = [tensor for key, tensor in found if key and key[3] == "A"]
    if not downs:
        return None
    rank = downs[0].shape[0] if downs[0].shape else 0
    for tensor in downs:
        if tensor.shape[:1] != (rank,) or not rank:
            raise CheckpointError(f"{tensor} does not have rank {rank} like {downs[0]}")
    modules = {key[2] for key, _ in found if key}
    return Lora(rank, alpha, LORA_TARGETS | modules)
