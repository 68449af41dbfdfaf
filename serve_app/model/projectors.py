"""The five linear projections from the towers' widths to LLaMA's, and the order of a clip's positions."""

import torch
from torch import nn

from serve_app.model.config import EmotionLlamaConfig


class ClipProjectors(nn.Module):
    """Maps the features of clips to `num_clip_positions` embeddings each.

    The order is the original's: [patch groups | face | temporal | audio | cls].
    """

    def __init__(self, config: EmotionLlamaConfig) -> None:
        super().__init__()
        vision_width = config.vision_config.hidden_size
        width = config.text_config.hidden_size
        self.patches_per_group = config.patches_per_group
        self.visual = nn.Linear(vision_width * config.patches_per_group, width)
        self.face = nn.Linear(config.face_feature_size, width)
        self.temporal = nn.Linear(config.temporal_feature_size, width)
        self.audio = nn.Linear(config.audio_feature_size, width)
        self.cls = nn.Linear(vision_width, width)

    def forward(
        self,
        patches: torch.Tensor,
        face_feature: torch.Tensor,
        temporal_feature: torch.Tensor,
        audio_feature: torch.Tensor,
        cls: torch.Tensor,
    ) -> torch.Tensor:
        """Features (B, ...) -> embeddings (B, num_clip_positions, hidden_size).

        A group is `patches_per_group` consecutive patches in raster order (a strip, not a square).
        """
        batch, num_patches, vision_width = patches.shape
        groups = patches.reshape(
            batch, num_patches // self.patches_per_group, vision_width * self.patches_per_group
        )
        utterance = torch.stack(
            [
                self.face(face_feature),
                self.temporal(temporal_feature),
                self.audio(audio_feature),
                self.cls(cls),
            ],
            dim=1,
        )
        return torch.cat([self.visual(groups), utterance], dim=1)
