"""The frozen encoders: EVA ViT-g over the frame, HuBERT over the waveform, and optional others."""

import torch
from transformers import HubertModel, PreTrainedModel
from vllm.model_executor.models.blip import BlipVisionModel

from serve_app.model.config import EmotionLlamaConfig

# CLIP's statistics, as the original's vis_processor uses them.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
WAVEFORM_EPS = 1e-7  # transformers' Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm


def normalise_frame(frame: torch.Tensor) -> torch.Tensor:
    """(..., H, W, 3) uint8 RGB -> pixel_values (..., 3, H, W) float32."""
    mean = torch.tensor(IMAGE_MEAN, device=frame.device)
    std = torch.tensor(IMAGE_STD, device=frame.device)
    return ((frame.float() / 255 - mean) / std).movedim(-1, -3)


def normalise_waveform(waveform: torch.Tensor) -> torch.Tensor:
    """(num_samples,) int16 -> input_values (num_samples,) float32, zero mean and unit variance."""
    samples = waveform.float() / 32768
    centred = samples - samples.mean()
    return centred / torch.sqrt(centred.square().mean() + WAVEFORM_EPS)


class VisionTower(BlipVisionModel):
    """EVA ViT-g. The norm after it is the original's `ln_vision`, which has an eps of its own."""

    def __init__(self, config: EmotionLlamaConfig, prefix: str) -> None:
        super().__init__(config.vision_config, None, prefix=prefix)
        self.post_layernorm.eps = config.vision_post_norm_eps

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, S, S, 3) uint8 -> cls (B, width) and patches (B, num_patches, width)."""
        hidden = super().forward(normalise_frame(frames))
        return hidden[:, 0], hidden[:, 1:]


class AudioTower(HubertModel):
    """HuBERT, reduced to one feature per clip: the mean over time of its last layer."""

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """(num_samples,) int16 -> (hidden_size,).

        One clip at a time and unpadded: padding would change the result with the batch around it.
        """
        input_values = normalise_waveform(waveform).to(self.dtype)
        hidden = super().forward(input_values[None]).last_hidden_state
        return hidden.mean(dim=1)[0]


def mean_feature(tower: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    """(B, ...) normalised input of an optional tower -> (B, hidden_size), the mean over its tokens."""
    return tower(pixels.to(tower.dtype)).last_hidden_state.mean(dim=1)
