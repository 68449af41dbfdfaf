"""EmotionLlamaForConditionalGeneration for vLLM: towers -> projectors -> LLaMA.

A checkpoint has the tensors that weights.py lists. The engine refuses to start when one of them is
missing or there are others.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import AutoModel
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import (
    MultiModalEmbeddings,
    SupportsLoRA,
    SupportsMultiModal,
    SupportsPP,
)
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors

from serve_app.model.arguments import CLIP_MARKER, MODALITY
from serve_app.model.processing import (
    ClipDummyInputsBuilder,
    ClipMultiModalProcessor,
    ClipProcessingInfo,
    tower_configs,
)
from serve_app.model.projectors import ClipProjectors
from serve_app.model.towers import AudioTower, VisionTower, mean_feature


@MULTIMODAL_REGISTRY.register_processor(
    ClipMultiModalProcessor, info=ClipProcessingInfo, dummy_inputs=ClipDummyInputsBuilder
)
class EmotionLlamaForConditionalGeneration(
    nn.Module,
    SupportsMultiModal,
    SupportsLoRA,
    SupportsPP,
):
    """One clip per prompt becomes `config.num_clip_positions` embeddings at its marker."""

    vision_tower: VisionTower
    audio_tower: AudioTower
    projectors: ClipProjectors

    packed_modules_mapping = {  # noqa: RUF012 - LoRA finds the fused layers by it
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.config = config = vllm_config.model_config.hf_config  # LoRA reads it
        self.configure_mm_token_handling(  # type: ignore[operator]
            config.text_config.vocab_size, [config.video_token_index]
        )
        with self._mark_tower_model(vllm_config, MODALITY):  # type: ignore[operator]
            self.vision_tower = VisionTower(config, maybe_prefix(prefix, "vision_tower"))
            self.audio_tower = AudioTower(config.audio_config)
            for name, tower in tower_configs(config).items():
                setattr(self, f"{name}_tower", AutoModel.from_config(tower))
            self.projectors = ClipProjectors(config)
        with self._mark_language_model(vllm_config):  # type: ignore[operator]
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=config.text_config,
                prefix=maybe_prefix(prefix, "language_model"),
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        return CLIP_MARKER if modality == MODALITY else None

    def get_mm_mapping(self) -> MultiModelKeys:
        return MultiModelKeys.from_string_field(
            language_model="language_model",
            connector="projectors",
            tower_model=[name for name, _ in self.named_children() if name.endswith("_tower")],
        )

    def embed_multimodal(self, **clip: Any) -> MultiModalEmbeddings:
        """Embeddings of a batch of clips, (B, num_clip_positions, hidden_size).

        Args:
            clip: the fields of processing.py, stacked where their shapes agree, else as lists;
                a batch has either waveforms or audio features throughout.
        """
        if not clip:
            return []
        dtype = self.projectors.visual.weight.dtype
        cls, patches = self.vision_tower(_stack(clip["frame"]))
        if "waveform" in clip:
            audio_feature = torch.stack([self.audio_tower(wave) for wave in clip["waveform"]])
        else:
            audio_feature = _stack(clip["audio_feature"])
        return self.projectors(
            patches=patches,
            face_feature=self._feature("face", clip).to(dtype),
            temporal_feature=self._feature("temporal", clip).to(dtype),
            audio_feature=audio_feature.to(dtype),
            cls=cls,
        )

    def _feature(self, name: str, clip: dict[str, Any]) -> torch.Tensor:
        """The ready features (B, width), or those that the optional tower of that name computes."""
        if f"{name}_feature" in clip:
            return _stack(clip[f"{name}_feature"])
        return mean_feature(getattr(self, f"{name}_tower"), _stack(clip[f"{name}_pixels"]))

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: object,
    ) -> torch.Tensor | IntermediateTensors:
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model.model(
            input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds
        )

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load all tensors.

        Raises:
            ValueError: there is an unknown tensor, or a part of a fused one is missing. vLLM itself
                notices missing parameters, but accepts a third of a qkv_proj.
        """
        seen = set()

        def noted() -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in weights:
                seen.add(name)
                yield name, tensor

        loaded: set[str] = AutoWeightsLoader(self).load_weights(noted())
        missing = {part for name in loaded for part in self._parts(name)} - seen
        if missing:
            raise ValueError(f"tensors missing from the checkpoint: {sorted(missing)}")
        return loaded

    def _parts(self, name: str) -> list[str]:
        """The checkpoint's names for a fused parameter; empty for any other."""
        for fused, parts in self.packed_modules_mapping.items():
            if f".{fused}." in name:
                return [name.replace(f".{fused}.", f".{part}.") for part in parts]
        return []


def _stack(values: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    return values if isinstance(values, torch.Tensor) else torch.stack(values)
