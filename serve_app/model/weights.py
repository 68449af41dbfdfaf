"""The tensors of a checkpoint: their names and shapes, from its config alone. Needs no vLLM.

language_model.model.*, language_model.lm_head.weight    as LlamaForCausalLM
vision_tower.*                                           as transformers' Blip2VisionModel
audio_tower.*                                            as transformers' HubertModel
face_tower.*, temporal_tower.*                           optional, as their transformers models
projectors.{visual,face,temporal,audio,cls}.{weight,bias}
"""

from collections.abc import Set

import torch
from torch import nn
from transformers import AutoModel, Blip2VisionModel, HubertModel, LlamaForCausalLM

from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.projectors import ClipProjectors


def build_modules(config: EmotionLlamaConfig) -> dict[str, nn.Module]:
    """Plain modules whose state dicts, under these prefixes, are the checkpoint."""
    modules: dict[str, nn.Module] = {
        "language_model": LlamaForCausalLM(config.text_config),
        "vision_tower": Blip2VisionModel(config.vision_config),
        "audio_tower": HubertModel(config.audio_config),
        "projectors": ClipProjectors(config),
    }
    for name, tower in (("face", config.face_config), ("temporal", config.temporal_config)):
        if tower is not None:
            modules[f"{name}_tower"] = AutoModel.from_config(tower)
    return modules


def tensor_shapes(config: EmotionLlamaConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor a complete checkpoint holds. Allocates nothing."""
    with torch.device("meta"):
        modules = build_modules(config)
    return {
        f"{prefix}.{name}": tuple(tensor.shape)
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def is_adapted(name: str, modules: Set[str]) -> bool:
    """Whether an adapter over these modules of LLaMA ("q_proj", ...) changes this tensor."""
    return (
        name.startswith("language_model.")
        and name.endswith(".weight")
        and name.split(".")[-2] in modules
    )


def adapter_shapes(
    shapes: dict[str, tuple[int, ...]], rank: int, modules: Set[str]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a LoRA adapter over LLaMA's linear layers, in PEFT's form.

    Args:
        shapes: of the checkpoint's own tensors, each (width_out, width_in).
    """
    adapter: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if is_adapted(name, modules):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            adapter[f"{module}.lora_A.weight"] = (rank, shape[1])
            adapter[f"{module}.lora_B.weight"] = (shape[0], rank)
    return adapter
