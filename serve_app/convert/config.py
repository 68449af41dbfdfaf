"""Derives the checkpoint's config from files and tensor shapes; what these do not say is an option."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Blip2VisionConfig, HubertConfig, LlamaConfig

from serve_app.convert.downloads import Downloads, Paths
from serve_app.convert.sources import Source, read_json
from serve_app.errors import CheckpointError
from serve_app.model import ARCHITECTURE
from serve_app.model.config import EmotionLlamaConfig
from serve_app.types import SAMPLE_RATE

IMAGE_SIZE = 448  # px; from the original's demo.yaml
MAX_IMAGE_SIZE = 4096  # px; more than any model takes
EVA_NUM_BLOCKS = 39  # create_eva_vit_g in eva_vit.py builds 39; its file holds 40
EVA_HEAD_WIDTH = 88  # from the same function: num_heads = 1408 // 88
# The plugin normalises waveforms this way; a HuBERT that expects anything else cannot be served.
FEATURE_EXTRACTOR = {"do_normalize": True, "sampling_rate": SAMPLE_RATE}


@dataclass(frozen=True, slots=True)
class Geometry:
    """Dimensions that a state dict does not tell. None takes dims.json's value, or else the published one."""

    image_size: int | None = None
    eva_num_heads: int | None = None
    eva_num_blocks: int | None = None


def derive_config(downloads: Downloads, geometry: Geometry, dtype: str) -> EmotionLlamaConfig:
    """The config of the converted model.

    Raises:
        CheckpointError: a tensor that tells a dimension is missing, or the dimensions do not fit together.
    """
    _check_feature_extractor(downloads.paths.feature_extractor)
    text = _json_config(downloads.paths.llama, "llama") | {"architectures": ["LlamaForCausalLM"]}
    # No SpecAugment: its mask embedding is only used in training.
    no_masks = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    audio = _json_config(downloads.paths.hubert, "hubert") | no_masks
    vision = _vision_config(downloads, geometry)
    checkpoint = downloads.checkpoint
    try:
        config = EmotionLlamaConfig(
            architectures=[ARCHITECTURE],
            dtype=dtype,
            text_config=LlamaConfig(**text),
            vision_config=Blip2VisionConfig(**vision),
            audio_config=HubertConfig(**audio),
            face_feature_size=_shape(checkpoint, "feats_llama_proj1.weight", 2)[1],
            temporal_feature_size=_shape(checkpoint, "feats_llama_proj2.weight", 2)[1],
            patches_per_group=_shape(checkpoint, "llama_proj.weight", 2)[1]
            // vision["hidden_size"],
        )
        assert config.num_clip_positions > 0
        return config
    except CheckpointError:
        raise
    except Exception as error:  # the errors of transformers' checks share no base class
        raise CheckpointError(
            f"{downloads.paths.llama}, {downloads.paths.hubert} and {downloads.paths.eva} "
            f"do not describe a model: {error}"
        ) from error


def _json_config(directory: Path, model_type: str) -> dict[str, Any]:
    path = directory / "config.json"
    config = read_json(path)
    if config.get("model_type") != model_type:
        raise CheckpointError(
            f"{path} has model_type {config.get('model_type')!r}; expected {model_type!r}"
        )
    # Each part is saved in the checkpoint's precision, not in that of its download.
    return {key: value for key, value in config.items() if key not in ("torch_dtype", "dtype")}


def _check_feature_extractor(path: Path) -> None:
    config = read_json(path) if path.is_file() else {}
    for key, expected in FEATURE_EXTRACTOR.items():
        if config.get(key, expected) != expected:
            raise CheckpointError(
                f"{path} has {key} {config[key]!r}; only {expected!r} can be served"
            )


def _vision_config(downloads: Downloads, geometry: Geometry) -> dict[str, Any]:
    eva, paths = downloads.eva, downloads.paths
    dims = _read_dims(paths)
    width = _shape(eva, "cls_token", 3)[2]
    patch_size = _shape(eva, "patch_embed.proj.weight", 4)[2]
    image_size = _chosen("image size", geometry.image_size, dims.get("img"), IMAGE_SIZE)
    if image_size % patch_size or image_size > MAX_IMAGE_SIZE:
        raise CheckpointError(
            f"image size {image_size} is not a multiple of {patch_size}, the patch size of {paths.eva}, "
            f"or is above {MAX_IMAGE_SIZE}"
        )
    published_heads = width // EVA_HEAD_WIDTH if width % EVA_HEAD_WIDTH == 0 else None
    num_heads = _chosen(
        f"number of heads (--eva-heads, or vit_heads in {paths.dims})",
        *(geometry.eva_num_heads, dims.get("vit_heads"), published_heads),
    )
    if width % num_heads:
        raise CheckpointError(
            f"{num_heads} heads do not divide the {width} channels of {paths.eva}"
        )
    return {
        "hidden_size": width,
        "intermediate_size": _shape(eva, "blocks.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": _num_blocks(downloads, geometry, dims),
        "num_attention_heads": num_heads,
        "image_size": image_size,
        "patch_size": patch_size,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
    }


def _num_blocks(downloads: Downloads, geometry: Geometry, dims: dict[str, Any]) -> int:
    numbers = [re.match(r"blocks\.(\d+)\.", name) for name in downloads.eva.tensors]
    num_stored = 1 + max((int(number[1]) for number in numbers if number), default=-1)
    # A file with fewer blocks than the original builds is not the published file, or is incomplete.
    published = EVA_NUM_BLOCKS if num_stored >= EVA_NUM_BLOCKS else None
    num_blocks = _chosen(
        f"number of blocks, of {num_stored} in {downloads.paths.eva} "
        f"(--eva-blocks, or vit_depth in {downloads.paths.dims})",
        *(geometry.eva_num_blocks, dims.get("vit_depth"), published),
    )
    if num_blocks > num_stored:
        raise CheckpointError(
            f"{downloads.paths.eva} holds {num_stored} blocks; {num_blocks} are needed"
        )
    return num_blocks


def _read_dims(paths: Paths) -> dict[str, Any]:
    stated = read_json(paths.dims) if paths.dims.is_file() else {}
    dims = stated.get("dims", stated)
    if not isinstance(dims, dict):
        raise CheckpointError(f"dims in {paths.dims} is not a JSON object")
    return dims


def _chosen(name: str, *values: Any) -> int:
    """The first value that is not None."""
    value = next((value for value in values if value is not None), None)
    if value is None:
        raise CheckpointError(
            f"the downloads do not say the {name}, and are not the published ones"
        )
    if type(value) is not int or value < 1:
        raise CheckpointError(f"the {name} is {value!r}; it must be a whole number above 0")
    return value


def _shape(source: Source, name: str, num_dims: int) -> tuple[int, ...]:
    tensor = source.tensors.get(name)
    if tensor is None:
        raise CheckpointError(f"{name} is missing in {source.where()}")
    if len(tensor.shape) != num_dims or 0 in tensor.shape:
        raise CheckpointError(f"{tensor} should have {num_dims} dimensions, none of them 0")
    return tensor.shape
