"""Stage 2: trains the audio tower to recognise how something is said, also in noise."""

import time

import torch
from torch import nn
from torch.nn import functional as F

from demo.architecture import Trainer, build_voice_tower, hear
from demo.data import VOICE_NAMES, VoiceSet
from serve_app.demo.voices import NUM_STYLE_FIELDS
from serve_app.model.config import EmotionLlamaConfig
from serve_app.types import SAMPLE_RATE

BATCH_SIZE = 24
LEARNING_RATE = 1e-3
WARM_UP = 80
SHORTEST_S, LONGEST_S = 0.9, 2.4  # length of the crops, the same within a batch
NOISY_SHARE = 0.65
NOISE_SNR_DB = (3.0, 30.0)
SILENT_SHARE = 0.05  # crops of digital silence or only noise
NO_VOICE_INDEX = len(VOICE_NAMES) - 1
LOG_EVERY = 100


class VoiceHeads(nn.Module):
    """Predicts class and style from the mean over time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.voice = nn.Linear(width, len(VOICE_NAMES))
        self.style = nn.Linear(width, NUM_STYLE_FIELDS)


def train_voice_tower(
    config: EmotionLlamaConfig, voices: VoiceSet, held_out: VoiceSet, steps: int, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    tower = build_voice_tower(config)
    heads = VoiceHeads(config.audio_config.hidden_size)
    trainer = Trainer([tower, heads], steps, LEARNING_RATE, WARM_UP)
    started = time.monotonic()
    for step in range(steps):
        chosen = torch.randint(len(voices.voices), (BATCH_SIZE,))
        waveforms, silent = hearings(voices, chosen)
        kind = torch.from_numpy(voices.voices)[chosen].masked_fill(silent, NO_VOICE_INDEX)
        styles = torch.from_numpy(voices.styles)[chosen]
        with torch.autocast("cpu", torch.bfloat16):
            feature = hear(tower, waveforms)
            miss = (heads.style(feature).float() - styles).square().mean(dim=-1)
            loss = F.cross_entropy(heads.voice(feature).float(), kind) + (miss * ~silent).mean()
        trainer.step(loss)
        if step % LOG_EVERY == 0 or step == steps - 1:
            scores = [accuracy(tower, heads, held_out, snr_db) for snr_db in (None, 10.0)]
            elapsed_s = time.monotonic() - started
            print(
                f"voice step {step}/{steps} loss {loss.item():.3f} held out {scores[0]:.3f}, "
                f"at 10 dB {scores[1]:.3f} {elapsed_s:.0f} s",
                flush=True,
            )
    return tower


def hearings(voices: VoiceSet, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of one random length, many of them noisy and some without the voice.

    Returns:
        waveforms (B, num_samples) int16, and (B,) bool: whether each is silent.
    """
    num_samples = int(torch.empty(()).uniform_(SHORTEST_S, LONGEST_S) * SAMPLE_RATE)
    whole = torch.from_numpy(voices.waveforms)[chosen]
    starts = torch.randint(whole.shape[1] - num_samples + 1, (len(chosen),)).tolist()
    crops = torch.stack(
        [
            waveform[start : start + num_samples]
            for waveform, start in zip(whole, starts, strict=True)
        ]
    )
    snr_db = torch.empty(len(chosen)).uniform_(*NOISE_SNR_DB)
    snr_db = snr_db.masked_fill(torch.rand(len(chosen)) > NOISY_SHARE, torch.inf)
    silent = torch.rand(len(chosen)) < SILENT_SHARE
    noise = white_noise(crops, snr_db)
    return add(crops.masked_fill(silent[:, None], 0), noise), silent


def white_noise(waveforms: torch.Tensor, snr_db: torch.Tensor) -> torch.Tensor:
    """Noise (B, num_samples) in int16's scale, (B,) dB below the waveforms; zeros at infinity."""
    levels = waveforms.float().square().mean(dim=1).sqrt() * 10 ** (-snr_db / 20)
    return torch.randn(waveforms.shape) * levels[:, None]


def add(waveforms: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """int16 + float -> int16, clipped."""
    return (waveforms + noise).round().clamp(-32768, 32767).to(torch.int16)


@torch.no_grad()
def accuracy(tower: nn.Module, heads: VoiceHeads, voices: VoiceSet, snr_db: float | None) -> float:
    waveforms = torch.from_numpy(voices.waveforms)
    if snr_db is not None:
        waveforms = add(waveforms, white_noise(waveforms, torch.full((len(waveforms),), snr_db)))
    with torch.autocast("cpu", torch.bfloat16):
        answers = heads.voice(hear(tower, waveforms)).argmax(dim=-1)
    return float((answers == torch.from_numpy(voices.voices)).float().mean())
