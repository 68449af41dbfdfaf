"""Stage 3: trains LLaMA and the projections to answer, on features of the finished towers."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from demo.architecture import Trainer, clip_embeddings, hear, see
from demo.conversation import CLIP_POSITION, Exercise, draw_exercise, encode_exercise
from demo.data import FACE_NAMES, VOICE_NAMES, FaceSet, VoiceSet
from demo.voice_stage import BATCH_SIZE as VOICE_BATCH_SIZE
from demo.voice_stage import hearings
from serve_app.demo.labels import LABELS, NO_FACE, NO_VOICE
from serve_app.model.config import EmotionLlamaConfig
from serve_app.tokenizer import Tokenizer

BATCH_SIZE = 32
LEARNING_RATE = 1e-3
WARM_UP = 80
LABEL_WEIGHT = 4.0  # of the label's token in the loss: it decides, among some forty
MEAN_PIXEL = (123, 117, 104)  # serve_app.model.processing shows it if a clip has no picture
NUM_EMPTY = 120  # copies of each kind of empty input, besides the backgrounds and noises
LOG_EVERY = 50


@dataclass(frozen=True, slots=True)
class Features:
    """The towers' features of many faces and voices, and which rows belong to which kind."""

    cls: torch.Tensor  # (N, width)
    patches: torch.Tensor  # (N, num_patches, width)
    faces: dict[str, torch.Tensor]  # face name -> row numbers in the two above
    audio: torch.Tensor  # (M, width)
    voices: dict[str, torch.Tensor]


@torch.no_grad()
def make_features(
    face_tower: nn.Module, voice_tower: nn.Module, faces: FaceSet, voices: VoiceSet, seed: int
) -> Features:
    """Computes features of faces, of voices cropped and noisy as in stage 2, and of empty inputs."""
    torch.manual_seed(seed)
    frames = torch.from_numpy(faces.frames)
    mean = torch.tensor(MEAN_PIXEL, dtype=torch.uint8).expand(1, *frames.shape[1:])
    empty_frames = torch.cat([mean, torch.zeros_like(mean)]).repeat(NUM_EMPTY, 1, 1, 1)
    seen = [see(face_tower, part) for part in torch.split(torch.cat([frames, empty_frames]), 128)]
    face_kinds = np.concatenate(
        [faces.faces, np.full(len(empty_frames), FACE_NAMES.index(NO_FACE))]
    )
    heard, voice_kinds = [], []
    for chosen in torch.split(torch.arange(len(voices.voices)), VOICE_BATCH_SIZE):
        waveforms, silent = hearings(voices, chosen)
        heard.append(hear(voice_tower, waveforms))
        kinds = torch.from_numpy(voices.voices)[chosen]
        voice_kinds.append(kinds.masked_fill(silent, VOICE_NAMES.index(NO_VOICE)))
    silence = hear(voice_tower, torch.zeros(1, 16_000, dtype=torch.int16))
    # A clip without a sound track has a zero feature; a silent track goes through the tower.
    heard += [silence.repeat(NUM_EMPTY, 1), torch.zeros(NUM_EMPTY, silence.shape[1])]
    voice_kinds.append(torch.full((2 * NUM_EMPTY,), VOICE_NAMES.index(NO_VOICE)))
    return Features(
        cls=torch.cat([cls for cls, _ in seen]),
        patches=torch.cat([patches for _, patches in seen]),
        faces=_rows(torch.from_numpy(face_kinds), FACE_NAMES),
        audio=torch.cat(heard),
        voices=_rows(torch.cat(voice_kinds), VOICE_NAMES),
    )


def _rows(kinds: torch.Tensor, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {name: (kinds == index).nonzero()[:, 0] for index, name in enumerate(names)}


def train_language_model(
    config: EmotionLlamaConfig,
    language_model: nn.Module,
    projectors: nn.Module,
    features: Features,
    tokenizer: Tokenizer,
    steps: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    trainer = Trainer([language_model, projectors], steps, LEARNING_RATE, WARM_UP)
    label_ids = torch.tensor([tokenizer.encode([label], "4.30")[0] for label in LABELS])
    started, hits = time.monotonic(), []
    for step in range(steps):
        exercises = [draw_exercise(random) for _ in range(BATCH_SIZE)]
        ids, is_answer = encode_batch(exercises, tokenizer, config.num_clip_positions)
        with torch.autocast("cpu", torch.bfloat16):
            clips = clip_embeddings(projectors, *_pick(features, exercises, random))
            hidden = run_language_model(language_model, ids, clips)
            # The token at a position is predicted from the position before it.
            logits = language_model.lm_head(hidden[:, :-1][is_answer[:, 1:]]).float()  # type: ignore[operator]
        targets = ids[:, 1:][is_answer[:, 1:]]
        is_label = torch.isin(targets, label_ids)
        weights = 1 + (LABEL_WEIGHT - 1) * is_label
        losses = F.cross_entropy(logits, targets, reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        trainer.step(loss)
        hits.append((logits.argmax(dim=-1) == targets)[is_label].float().mean().item())
        if step % LOG_EVERY == LOG_EVERY - 1 or step == steps - 1:
            elapsed_s = time.monotonic() - started
            print(
                f"words step {step}/{steps} loss {loss.item():.3f} labels right "
                f"{np.mean(hits[-LOG_EVERY:]):.3f} {elapsed_s:.0f} s",
                flush=True,
            )


def _pick(
    features: Features, exercises: list[Exercise], random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of a random face and voice of the kind of each exercise."""
    faces = torch.stack([_one_of(features.faces[e.face], random) for e in exercises])
    voices = torch.stack([_one_of(features.voices[e.voice], random) for e in exercises])
    return features.cls[faces], features.patches[faces], features.audio[voices]


def _one_of(rows: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    return rows[int(random.integers(len(rows)))]


def encode_batch(
    exercises: list[Exercise], tokenizer: Tokenizer, num_clip_positions: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T), padded at the end with EOS, and a mask of the answers' tokens."""
    prompts, answers = [], []
    for exercise in exercises:
        prompts.append(
            encode_exercise(exercise.options, exercise.question, tokenizer, num_clip_positions)
        )
        answers.append([*tokenizer.encode([exercise.answer], "4.30"), tokenizer.eos_id])
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(exercises), longest), tokenizer.eos_id)
    is_answer = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        is_answer[row, len(prompt) : len(prompt) + len(answer)] = True
    return ids, is_answer


def run_language_model(
    language_model: nn.Module, ids: torch.Tensor, clips: torch.Tensor
) -> torch.Tensor:
    """(B, T) ids with CLIP_POSITIONs and the clips' (B, positions, width) -> hidden states (B, T, width).

    Padding follows the answers; attention only looks back, so no mask is needed.
    """
    embeddings = embed(language_model, ids, clips)
    return torch.as_tensor(language_model.model(inputs_embeds=embeddings).last_hidden_state)  # type: ignore[operator]


def embed(language_model: nn.Module, ids: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """(B, T) ids -> (B, T, width), with the clips' embeddings at the CLIP_POSITIONs."""
    is_clip = ids == CLIP_POSITION
    embeddings = language_model.get_input_embeddings()(ids.masked_fill(is_clip, 0)).clone()  # type: ignore[operator]
    embeddings[is_clip] = clips.flatten(0, 1).to(embeddings.dtype)
    return torch.as_tensor(embeddings)
