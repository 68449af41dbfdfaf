"""The four downloads, opened, and the checkpoint's config as their files and shapes give it."""

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from transformers import Blip2VisionConfig, HubertConfig, LlamaConfig

from serve_app.convert.sources import Source, open_directory, open_file, read_json
from serve_app.errors import CheckpointError
from serve_app.model import ARCHITECTURE
from serve_app.model.config import EmotionLlamaConfig
from serve_app.types import SAMPLE_RATE

IMAGE_SIZE = 448  # px; the original's demo.yaml
EVA_NUM_BLOCKS = 39  # eva_vit.py's create_eva_vit_g builds 39; its file holds 40
EVA_HEAD_WIDTH = 88  # ditto: num_heads = 1408 // 88
FEATURE_EXTRACTOR = {"do_normalize": True, "sampling_rate": SAMPLE_RATE}
DIMS_FILE = "dims.json"  # beside the EVA file: {"img", "vit_heads", "vit_depth"} where they differ from these


@dataclass(frozen=True, slots=True)
class Paths:
    """What the user has."""

    llama: Path  # folder
    eva: Path  # file
    hubert: Path  # folder
    checkpoint: Path  # file


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a state dict cannot say. None: the sidecar's value, or else the published one."""

    image_size: int | None = None
    eva_num_heads: int | None = None
    eva_num_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Downloads:
    """Opened: every name and shape is known, no tensor is read."""

    paths: Paths
    llama: Source
    eva: Source
    hubert: Source
    checkpoint: Source


def open_downloads(paths: Paths) -> Downloads:
    """Raises CheckpointError: a file is missing, damaged or holds code."""
    return Downloads(
        paths,
        llama=open_directory(paths.llama),
        eva=open_file(paths.eva),
        hubert=open_directory(paths.hubert),
        checkpoint=open_file(paths.checkpoint),
    )


def derive_config(downloads: Downloads, geometry: Geometry, dtype: str) -> EmotionLlamaConfig:
    """Raises CheckpointError: a tensor that tells a dimension is missing, or the geometry is unknown."""
    vision = _vision_config(downloads, geometry)
    _check_feature_extractor(downloads.paths.hubert)
    checkpoint = downloads.checkpoint
    return EmotionLlamaConfig(
        architectures=[ARCHITECTURE],
        dtype=dtype,
        text_config=LlamaConfig(
            **_json_config(downloads.paths.llama, "llama") | {"architectures": ["LlamaForCausalLM"]}
        ),
        vision_config=vision,
        audio_config=HubertConfig(
            **_json_config(downloads.paths.hubert, "hubert")
            # No SpecAugment: its mask embedding is used in training alone.
            | {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
        ),
        face_feature_size=_shape(checkpoint, "feats_llama_proj1.weight", 2)[1],
        temporal_feature_size=_shape(checkpoint, "feats_llama_proj2.weight", 2)[1],
        patches_per_group=_shape(checkpoint, "llama_proj.weight", 2)[1] // vision.hidden_size,
    )


def _json_config(directory: Path, model_type: str) -> dict[str, Any]:
    path = directory / "config.json"
    config = read_json(path)
    if config.get("model_type") != model_type:
        raise CheckpointError(
            f"{path} has model_type {config.get('model_type')!r}; expected {model_type!r}"
        )
    # Each part is saved in the checkpoint's precision, not in its download's.
    return {key: value for key, value in config.items() if key not in ("torch_dtype", "dtype")}


def _check_feature_extractor(directory: Path) -> None:
    """The plugin normalises a waveform itself; a HuBERT that expects anything else is another model."""
    path = directory / "preprocessor_config.json"
    if not path.is_file():
        return
    config = read_json(path)
    for key, expected in FEATURE_EXTRACTOR.items():
        if config.get(key, expected) != expected:
            raise CheckpointError(
                f"{path} has {key} {config[key]!r}; only {expected!r} can be served"
            )


def _vision_config(downloads: Downloads, geometry: Geometry) -> Blip2VisionConfig:
    eva = downloads.eva
    path = downloads.paths.eva
    sidecar = path.parent / DIMS_FILE
    stated = read_json(sidecar) if sidecar.is_file() else {}
    dims = stated.get("dims", stated)
    width = _shape(eva, "cls_token", 3)[2]
    patch_size = _shape(eva, "patch_embed.proj.weight", 4)[2]
    num_heads = geometry.eva_num_heads or dims.get("vit_heads") or width // EVA_HEAD_WIDTH
    if not num_heads or width % num_heads:
        raise CheckpointError(
            f"{path} does not say how many heads its {width} channels have, and they are no multiple "
            f"of the published {EVA_HEAD_WIDTH}; say it with --eva-heads or in {sidecar} (vit_heads)"
        )
    num_stored = 1 + max(
        (int(name.split(".")[1]) for name in eva.tensors if name.startswith("blocks.")), default=-1
    )
    # The published file has one block more than the original builds; a trimmed one is used whole.
    num_used = min(EVA_NUM_BLOCKS, num_stored) if num_stored >= EVA_NUM_BLOCKS else num_stored - 1
    image_size = geometry.image_size or dims.get("img") or IMAGE_SIZE
    if image_size % patch_size:
        raise CheckpointError(
            f"image size {image_size} is no multiple of {patch_size}, the patch size"
        )
    return Blip2VisionConfig(
        hidden_size=width,
        intermediate_size=_shape(eva, "blocks.0.mlp.fc1.weight", 2)[0],
        num_hidden_layers=geometry.eva_num_blocks or dims.get("vit_depth") or num_used,
        num_attention_heads=num_heads,
        image_size=image_size,
        patch_size=patch_size,
        layer_norm_eps=1e-6,
        qkv_bias=True,
    )


def _shape(source: Source, name: str, num_dims: int) -> tuple[int, ...]:
    tensor = source.tensors.get(name)
    if tensor is None:
        raise CheckpointError(f"{name} is missing in {source.where()}")
    if len(tensor.shape) != num_dims:
        raise CheckpointError(f"{tensor} should have {num_dims} dimensions")
    return tensor.shape


def position_grid(num_positions: int) -> int:
    """Side of the square of patches behind a position embedding, whose first row is cls."""
    return isqrt(num_positions - 1)
