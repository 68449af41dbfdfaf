"""Turns clip dicts into tensors and placeholders: the multimodal processor that vLLM runs before the engine.

A clip dict may hold these fields and no others:

    frame             (S, S, 3) uint8 RGB, S = config.image_size
    waveform          (num_samples,) int16 mono at 16 kHz, at least 400 samples; or instead of it
    audio_feature     (audio_feature_size,) float32, a ready HuBERT mean
    face_feature      (face_feature_size,) float32
    temporal_feature  (temporal_feature_size,) float32
    face_pixels, temporal_pixels
                      in place of the feature, where the checkpoint has that tower: its normalised
                      float32 input, (C, S, S) or (num_frames, C, S, S)

`complete_clip` fills in absent fields as the released demo does for the face and temporal features, with
zeros. Normalising happens on the device (towers.py), so that 0.6 MB of bytes cross the
process boundary and not 2.4 MB of floats.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, PretrainedConfig
from vllm.config.multimodal import MultiModalDummyOptions
from vllm.inputs import MultiModalDataDict
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import (
    ModalityDataItems,
    MultiModalDataItems,
    MultiModalDataParser,
    ProcessorBatchItems,
)
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdate,
    PromptUpdateDetails,
)

from serve_app.model.arguments import BEFORE_FEATURES, CLIP_MARKER, MODALITY
from serve_app.model.config import (
    NUM_CLS_POSITIONS,
    NUM_FEATURE_POSITIONS,
    EmotionLlamaConfig,
    tower_input_shape,
)

UNK_TOKEN_ID = 0  # what the marker expands to; see `_get_prompt_updates`
MIN_WAVEFORM_SAMPLES = 400  # below this HuBERT's seven convolutions have no output frame
MEAN_PIXEL = (123, 117, 104)  # RGB; normalises to zero within half a grey level
DUMMY_WAVEFORM_SAMPLES = 60 * 16_000  # the longest clip served: what memory profiling must see

ClipDict = Mapping[str, Any]


def complete_clip(clip: ClipDict, config: EmotionLlamaConfig) -> dict[str, torch.Tensor]:
    """Check every field of a clip dict and fill in the missing ones.

    Raises:
        ValueError: a field is unknown, or has another shape or dtype than documented above.
    """
    size = config.image_size
    feature_sizes = {
        "audio_feature": config.audio_feature_size,
        "face_feature": config.face_feature_size,
        "temporal_feature": config.temporal_feature_size,
    }
    # A tower's input, which a clip may have in place of the feature.
    raw_inputs = {"audio_feature": "waveform"} | {
        f"{name}_feature": f"{name}_pixels" for name in tower_configs(config)
    }
    unknown = set(clip) - {"frame", *feature_sizes, *raw_inputs.values()}
    if unknown:
        raise ValueError(f"unknown clip fields {sorted(unknown)}")
    for feature, raw in raw_inputs.items():
        if feature in clip and raw in clip:
            raise ValueError(f"a clip has {raw} or {feature}, not both")

    # torch.tensor copies: arrays that came through Ray's object store are read-only.
    tensors = {
        name: value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for name, value in clip.items()
    }
    if "frame" not in tensors:
        tensors["frame"] = torch.tensor(MEAN_PIXEL, dtype=torch.uint8).expand(size, size, 3)
    _check("frame", tensors["frame"], (size, size, 3), torch.uint8)
    for name, width in feature_sizes.items():
        if raw_inputs.get(name) in tensors:
            continue
        tensors.setdefault(name, torch.zeros(width))
        _check(name, tensors[name], (width,), torch.float32)
    if "waveform" in tensors:
        _check_waveform(tensors["waveform"])
    for name, tower in tower_configs(config).items():
        if f"{name}_pixels" in tensors:
            shape = tower_input_shape(tower)
            _check(f"{name}_pixels", tensors[f"{name}_pixels"], shape, torch.float32)
    return tensors


def tower_configs(config: EmotionLlamaConfig) -> dict[str, PretrainedConfig]:
    """The optional towers this checkpoint has, by the name of their feature."""
    towers = {"face": config.face_config, "temporal": config.temporal_config}
    return {name: tower for name, tower in towers.items() if tower is not None}


def _check(name: str, value: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise ValueError(
            f"clip field {name} is {tuple(value.shape)} {value.dtype}; expected {shape} {dtype}"
        )


def _check_waveform(waveform: torch.Tensor) -> None:
    if waveform.ndim != 1 or waveform.dtype != torch.int16:
        raise ValueError(
            f"clip field waveform is {tuple(waveform.shape)} {waveform.dtype}; "
            "expected (num_samples,) torch.int16"
        )
    if len(waveform) < MIN_WAVEFORM_SAMPLES:
        raise ValueError(
            f"clip field waveform has {len(waveform)} samples; at least {MIN_WAVEFORM_SAMPLES}"
        )


class ClipItems(ProcessorBatchItems[ClipDict]):
    """The clips of one prompt. None stands for a clip the engine already holds under its uuid."""

    def get_processor_data(self) -> Mapping[str, object]:
        return {"clips": self.get_all()}


class ClipDataParser(MultiModalDataParser):
    """Accepts one clip dict, or a list of them, as the `video` item."""

    def _parse_video_data(self, data: Any) -> ModalityDataItems[Any, Any] | None:
        clips = data if isinstance(data, list) else [data]
        for clip in clips:
            if clip is not None and not isinstance(clip, Mapping):
                raise ValueError(f"a clip is a dict of arrays, not {type(clip).__name__}")
        return ClipItems(clips, MODALITY)


class ClipProcessingInfo(BaseProcessingInfo):
    """What vLLM asks about clips before it sees one."""

    def get_hf_config(self) -> EmotionLlamaConfig:
        return self.ctx.get_hf_config(EmotionLlamaConfig)

    def get_hf_processor(self, **kwargs: object) -> None:
        return None  # the checkpoint has none: the fields are tensors already

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        return {}

    def get_data_parser(self) -> MultiModalDataParser:
        return ClipDataParser()

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {MODALITY: 1}

    def get_mm_max_tokens_per_item(
        self, seq_len: int, mm_counts: Mapping[str, int]
    ) -> Mapping[str, int]:
        return {MODALITY: self.get_hf_config().num_clip_positions}


class ClipDummyInputsBuilder(BaseDummyInputsBuilder[ClipProcessingInfo]):
    """The largest clip, for memory profiling."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return CLIP_MARKER * mm_counts.get(MODALITY, 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: MultiModalDummyOptions
    ) -> MultiModalDataDict:
        waveform = np.zeros(DUMMY_WAVEFORM_SAMPLES, np.int16)
        return {MODALITY: [{"waveform": waveform}] * mm_counts.get(MODALITY, 0)}


class ClipMultiModalProcessor(BaseMultiModalProcessor[ClipProcessingInfo]):
    """One marker in the prompt becomes `num_clip_positions` placeholders, one clip its tensors."""

    def _call_hf_processor(
        self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]
    ) -> BatchFeature:
        clips = hf_data["clips"]
        assert isinstance(clips, Sequence)
        config = self.info.get_hf_config()
        completed = [complete_clip(clip, config) for clip in clips]
        fields = {name for clip in completed for name in clip}
        # One clip per prompt (get_supported_mm_limits), so every field has one value.
        return BatchFeature({name: [clip[name] for clip in completed] for name in fields})

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {name: MultiModalFieldConfig.batched(MODALITY) for name in hf_inputs}

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, Any],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        """The clip's positions at its marker.

        With `mm_processor_kwargs={BEFORE_FEATURES: ids}` those ids, which must hold no <unk>, come before
        the last four positions: the layout that the original was trained with.
        """
        config = self.info.get_hf_config()
        ids_between = hf_processor_mm_kwargs.get(BEFORE_FEATURES, [])
        num_last = NUM_FEATURE_POSITIONS + NUM_CLS_POSITIONS
        # The placeholders must be a token of the vocabulary: the marker's own id lies past it, and a
        # request with prompt_logprobs would index the logits with it and kill the engine.
        return [
            PromptReplacement(
                modality=MODALITY,
                target=[config.video_token_index],
                replacement=PromptUpdateDetails.select_token_id(
                    [
                        *[UNK_TOKEN_ID] * (config.num_clip_positions - num_last),
                        *ids_between,
                        *[UNK_TOKEN_ID] * num_last,
                    ],
                    embed_token_id=UNK_TOKEN_ID,
                ),
            )
        ]
