"""A finished demonstration checkpoint in plain PyTorch: many clips at once, without vLLM."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from demo.architecture import clip_embeddings, hear, load_weights, see
from demo.conversation import encode_exercise
from demo.language_stage import MEAN_PIXEL, embed
from serve_app.model.config import EmotionLlamaConfig
from serve_app.tokenizer import Tokenizer
from serve_app.types import PromptOptions

REPETITION_PENALTY = 1.05  # the product's default, over BOS and the answer
MAX_TOKENS = 90
BATCH_SIZE = 64
CHAT = PromptOptions()


@dataclass(frozen=True, slots=True)
class Views:
    """The towers' features of some clips, row by row."""

    cls: torch.Tensor  # (B, width)
    patches: torch.Tensor  # (B, num_patches, width)
    audio: torch.Tensor  # (B, width)

    def rows(self, start: int, stop: int) -> "Views":
        return Views(self.cls[start:stop], self.patches[start:stop], self.audio[start:stop])


class Demo:
    """Loads a checkpoint directory; answers with the product's prompts, in float32."""

    def __init__(self, directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text())
        self.config = EmotionLlamaConfig(**config)
        self.tokenizer = Tokenizer(directory)
        self._modules: dict[str, Any] = load_weights(self.config, directory / "model.safetensors")

    @torch.no_grad()
    def look(
        self, frames: Sequence[npt.NDArray[np.uint8] | None]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cls and patches of frames (S, S, 3); None is a clip without picture."""
        size = self.config.image_size
        nothing = np.broadcast_to(np.array(MEAN_PIXEL, np.uint8), (size, size, 3))
        stacked = np.stack([nothing if frame is None else frame for frame in frames])
        parts = [
            see(self._modules["vision_tower"], p)
            for p in torch.split(torch.from_numpy(stacked), 64)
        ]
        return torch.cat([cls for cls, _ in parts]), torch.cat([patches for _, patches in parts])

    @torch.no_grad()
    def listen(self, waveforms: Sequence[npt.NDArray[np.int16] | None]) -> torch.Tensor:
        """(B, width) of waveforms of any lengths, one by one; None is a clip without sound track."""
        nothing = torch.zeros(1, self.config.audio_feature_size)
        tower = self._modules["audio_tower"]
        return torch.cat(
            [nothing if w is None else hear(tower, torch.from_numpy(w)[None]) for w in waveforms]
        )

    def answer(
        self,
        views: Views,
        questions: Sequence[str],
        options: PromptOptions = CHAT,
        temperature: float = 0.0,
        penalty: float = REPETITION_PENALTY,
    ) -> list[str]:
        """One answer per row. Greedy at temperature 0, else drawn with torch's global seed."""
        answers: list[str] = []
        for start in range(0, len(questions), BATCH_SIZE):
            part = questions[start : start + BATCH_SIZE]
            prompts = [
                encode_exercise(options, q, self.tokenizer, self.config.num_clip_positions)
                for q in part
            ]
            batch = views.rows(start, start + len(part))
            ids = self._generate(batch, prompts, temperature, penalty)
            answers += [self.tokenizer.decode(row) for row in ids]
        return answers

    @torch.no_grad()
    def _generate(
        self, views: Views, prompts: list[list[int]], temperature: float, penalty: float
    ) -> list[list[int]]:
        """Token ids of the answers, EOS left out. Prompts are padded in front."""
        model, eos = self._modules["language_model"], self.tokenizer.eos_id
        longest = max(map(len, prompts))
        padding = torch.tensor([longest - len(prompt) for prompt in prompts])
        ids = torch.tensor([[eos] * (longest - len(prompt)) + prompt for prompt in prompts])
        clips = clip_embeddings(self._modules["projectors"], views.cls, views.patches, views.audio)
        inputs = embed(model, ids, clips)
        mask = (torch.arange(longest) >= padding[:, None]).long()
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        said = torch.zeros(len(prompts), self.config.text_config.vocab_size, dtype=torch.bool)
        said[:, self.tokenizer.bos_id] = True
        answers, cache = torch.empty(len(prompts), 0, dtype=torch.long), None
        for _ in range(MAX_TOKENS):
            out = model(
                inputs_embeds=inputs,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            logits = out.logits[:, -1]
            punished = torch.where(logits > 0, logits / penalty, logits * penalty)
            token = _draw(torch.where(said, punished, logits), temperature)
            answers = torch.cat([answers, token[:, None]], dim=1)
            if bool((answers == eos).any(dim=1).all()):
                break
            said[torch.arange(len(token)), token] = True
            inputs = model.get_input_embeddings()(token)[:, None]
            mask = torch.cat([mask, torch.ones(len(token), 1, dtype=torch.long)], dim=1)
            positions = positions[:, -1:] + 1
        return [_until(row, eos) for row in answers.tolist()]


def _draw(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    return torch.multinomial((logits / temperature).softmax(dim=-1), 1)[:, 0]


def _until(ids: list[int], eos: int) -> list[int]:
    return ids[: ids.index(eos)] if eos in ids else ids
