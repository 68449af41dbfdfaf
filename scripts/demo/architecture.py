"""The demonstration's dimensions, and its parts as plain PyTorch modules that all training stages share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Blip2VisionConfig, HubertConfig, LlamaConfig

from serve_app.model import ARCHITECTURE
from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.towers import normalise_frame, normalise_waveform
from serve_app.model.weights import build_modules

IMAGE_SIZE = 112  # pixels
TOWER_WIDTH = 128
TOWER_MLP = 384
NUM_TOWER_HEADS = 4
INITIAL_STD = 0.02
UNUSED_FEATURE_SIZE = 16  # face and temporal features: not computed here, always zeros


def demo_config(vocab_size: int) -> EmotionLlamaConfig:
    """The config: 64 patches, 16 groups, 20 clip positions, 4.5 million parameters."""
    return EmotionLlamaConfig(
        architectures=[ARCHITECTURE],
        dtype="float16",
        text_config=LlamaConfig(
            architectures=["LlamaForCausalLM"],
            hidden_size=256,
            intermediate_size=640,
            num_hidden_layers=3,
            num_attention_heads=4,  # 64 channels each: vLLM's CPU attention needs at least 32
            num_key_value_heads=4,
            vocab_size=vocab_size,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            initializer_range=INITIAL_STD,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=False,
        ),
        vision_config=Blip2VisionConfig(
            hidden_size=TOWER_WIDTH,
            intermediate_size=TOWER_MLP,
            num_hidden_layers=4,
            num_attention_heads=NUM_TOWER_HEADS,
            image_size=IMAGE_SIZE,
            patch_size=14,
            initializer_range=INITIAL_STD,  # with the default of 1e-10 training never leaves zero
        ),
        audio_config=HubertConfig(
            hidden_size=TOWER_WIDTH,
            intermediate_size=TOWER_MLP,
            num_hidden_layers=3,
            num_attention_heads=NUM_TOWER_HEADS,
            conv_dim=(24, 32, 48, 64, 64, 96, 128),
            conv_bias=True,
            feat_extract_norm="group",  # takes half the time of "layer"
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=32,
            num_conv_pos_embedding_groups=8,
            initializer_range=INITIAL_STD,
            mask_time_prob=0.0,
            mask_feature_prob=0.0,
            **dict.fromkeys(_DROPOUTS, 0.0),
        ),
        face_feature_size=UNUSED_FEATURE_SIZE,
        temporal_feature_size=UNUSED_FEATURE_SIZE,
    )


_DROPOUTS = (
    "hidden_dropout",
    "activation_dropout",
    "attention_dropout",
    "feat_proj_dropout",
    "final_dropout",
    "layerdrop",
)


def build_face_tower(config: EmotionLlamaConfig) -> nn.Module:
    tower: Any = build_modules(config)["vision_tower"]
    for parameter in tower.embeddings.parameters():  # otherwise CLS and positions would stay zero
        if parameter.ndim != 1:
            nn.init.normal_(parameter, std=INITIAL_STD)
    tower.post_layernorm.eps = config.vision_post_norm_eps
    built: nn.Module = tower.eval()
    return built


def build_voice_tower(config: EmotionLlamaConfig) -> nn.Module:
    return build_modules(config)["audio_tower"].eval()


def see(tower: nn.Module, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames (B, S, S, 3), RGB in 0..255 -> cls (B, width) and patches (B, num_patches, width)."""
    hidden = tower(normalise_frame(frames)).last_hidden_state
    return hidden[:, 0], hidden[:, 1:]


def hear(tower: nn.Module, waveforms: torch.Tensor) -> torch.Tensor:
    """Waveforms (B, num_samples) int16 -> (B, width). All have the same length: padding is not supported."""
    values = torch.stack([normalise_waveform(waveform) for waveform in waveforms])
    return torch.as_tensor(tower(values).last_hidden_state.mean(dim=1))


def save_weights(modules: dict[str, nn.Module], path: Path) -> None:
    """Writes the weights in half precision, under the names that serve_app/model/weights.py documents."""
    tensors = {
        f"{prefix}.{name}": tensor.to(torch.float16).contiguous().clone()
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it readable for the owner only


def load_weights(config: EmotionLlamaConfig, path: Path) -> dict[str, nn.Module]:
    """Loads the modules of a saved checkpoint, in float32."""
    modules = build_modules(config)
    tensors = load_file(path)
    for prefix, module in modules.items():
        start = f"{prefix}."
        module.load_state_dict(
            {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
        )
        module.float().eval()
    vision: Any = modules["vision_tower"]
    vision.post_layernorm.eps = config.vision_post_norm_eps
    return modules


def clip_embeddings(
    projectors: nn.Module,
    cls: torch.Tensor,
    patches: torch.Tensor,
    audio_feature: torch.Tensor,
) -> torch.Tensor:
    """Features (B, ...) -> (B, num_clip_positions, hidden_size); no face or temporal feature."""
    nothing = torch.zeros(len(cls), UNUSED_FEATURE_SIZE)
    return torch.as_tensor(projectors(patches, nothing, nothing, audio_feature, cls))


def cosine_schedule(optimizer: torch.optim.Optimizer, steps: int, warm_up: int) -> Any:
    """A learning-rate schedule: rises over `warm_up` steps, then falls to zero along half a cosine."""

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        share = (step - warm_up) / max(1, steps - warm_up)
        return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * share))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class Trainer:
    """AdamW for some modules; call it once for each step."""

    def __init__(self, modules: Sequence[nn.Module], steps: int, rate: float, warm_up: int) -> None:
        self.parameters = [p for module in modules for p in module.parameters()]
        self._optimizer = torch.optim.AdamW(
            self.parameters, lr=rate, weight_decay=0.05, betas=(0.9, 0.98)
        )
        self._schedule = cosine_schedule(self._optimizer, steps, warm_up)

    def step(self, loss: torch.Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
