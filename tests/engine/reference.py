"""The same checkpoint computed by plain transformers over `inputs_embeds`: the oracle of the engine tests.

Shares no code with serve_app/model: preprocessing is transformers' feature extractor and numpy.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from transformers import (
    Blip2VisionConfig,
    Blip2VisionModel,
    HubertConfig,
    HubertModel,
    LlamaConfig,
    LlamaForCausalLM,
    Wav2Vec2FeatureExtractor,
)

from serve_app.types import Clip

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
LN_VISION_EPS = 1e-5


class Reference:
    """Loads a checkpoint directory; `tensors` may be edited before the first call."""

    def __init__(self, checkpoint: Path) -> None:
        self.config = json.loads((checkpoint / "config.json").read_text())
        self.tensors: dict[str, torch.Tensor] = load_file(checkpoint / "model.safetensors")
        self.llama = self._load(LlamaForCausalLM, LlamaConfig, "text_config", "language_model")
        self.vision = self._load(
            Blip2VisionModel, Blip2VisionConfig, "vision_config", "vision_tower"
        )
        self.vision.post_layernorm.eps = LN_VISION_EPS
        self.hubert = self._load(HubertModel, HubertConfig, "audio_config", "audio_tower")
        self.extractor = Wav2Vec2FeatureExtractor(do_normalize=True)

    def _load(self, model: Any, config: Any, section: str, prefix: str) -> Any:
        module = model(config(**self.config[section])).eval()
        state = {
            name.removeprefix(f"{prefix}."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}.")
        }
        module.load_state_dict(state, strict=True)
        return module

    def _project(self, name: str, features: torch.Tensor) -> torch.Tensor:
        weight = self.tensors[f"projectors.{name}.weight"]
        return features @ weight.T + self.tensors[f"projectors.{name}.bias"]

    @torch.inference_mode()
    def clip_embeddings(self, clip: Clip) -> torch.Tensor:
        """(260, hidden_size)."""
        assert clip.frame is not None
        pixels = ((clip.frame / np.float32(255) - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1)
        vision = self.vision(torch.from_numpy(pixels)[None]).last_hidden_state[0]
        groups = vision[1:].reshape(256, -1)
        zeros = torch.zeros(self.config["face_feature_size"])
        return torch.cat(
            [
                self._project("visual", groups),
                self._project("face", zeros[None]),
                self._project("temporal", zeros[None]),
                self._project("audio", self.audio_feature(clip.waveform)[None]),
                self._project("cls", vision[:1]),
            ]
        )

    def audio_feature(self, waveform: npt.NDArray[np.int16] | None) -> torch.Tensor:
        if waveform is None:
            return torch.zeros(self.config["audio_config"]["hidden_size"])
        inputs = self.extractor(
            waveform.astype(np.float32) / 32768, sampling_rate=16_000, return_tensors="pt"
        )
        hidden: torch.Tensor = self.hubert(inputs.input_values).last_hidden_state
        return hidden[0].mean(dim=0)

    @torch.inference_mode()
    def log_probability(
        self, prompt_token_ids: list[int], clip: Clip, continuation: list[int]
    ) -> float:
        """Log-probability of a whole continuation of the prompt, in one forward pass."""
        ids = torch.tensor([*prompt_token_ids, *continuation])
        embeds = self.llama.get_input_embeddings()(ids)
        embeds[: len(prompt_token_ids)][ids[: len(prompt_token_ids)] == 0] = self.clip_embeddings(
            clip
        )
        logits = self.llama(inputs_embeds=embeds[None]).logits[0, -len(continuation) - 1 : -1]
        chosen = logits.log_softmax(dim=-1)[range(len(continuation)), continuation]
        return float(chosen.sum())

    @torch.inference_mode()
    def greedy(self, prompt_token_ids: list[int], clip: Clip, num_tokens: int) -> list[int]:
        """Greedy tokens. The prompt's run of placeholders (id 0) is where the clip goes."""
        ids = torch.tensor(prompt_token_ids)
        embeds = self.llama.get_input_embeddings()(ids)
        embeds[ids == 0] = self.clip_embeddings(clip)
        output = self.llama.generate(
            inputs_embeds=embeds[None],
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=num_tokens,
            pad_token_id=0,
        )
        tokens: list[int] = output[0].tolist()
        return tokens
