"""Runs stages 1 and 2 in parallel: one process and one core for each tower."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from demo.architecture import IMAGE_SIZE
from demo.data import make_faces, make_voices
from demo.face_stage import train_face_tower
from demo.voice_stage import train_voice_tower
from serve_app.model.config import EmotionLlamaConfig

HELD_OUT_SEED = 1_000_000  # added to the seed of the training material


@dataclass(frozen=True, slots=True)
class TowerPlan:
    """How much data and how many steps the stages use."""

    num_faces: int = 16_000
    face_steps: int = 4500
    num_voices: int = 7000
    voice_steps: int = 2400
    num_held_out: int = 450


@dataclass(frozen=True, slots=True)
class Towers:
    """The files of the towers' state dicts."""

    face: Path
    voice: Path


def train_towers(config: EmotionLlamaConfig, plan: TowerPlan, seed: int, work: Path) -> Towers:
    """Trains both towers. Writes files in `work` named by plan and seed; existing ones are kept."""
    made_by = f"{hashlib.sha256(repr(plan).encode()).hexdigest()[:8]}-{seed}"
    towers = Towers(work / f"face-{made_by}.pt", work / f"voice-{made_by}.pt")
    stages = {towers.face: _train_face, towers.voice: _train_voice}
    context = get_context("spawn")
    processes = [
        context.Process(target=_alone, args=(stage, config, plan, seed, path))
        for path, stage in stages.items()
        if not path.exists()
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a tower's training failed; see above")
    return towers


Stage = Callable[[EmotionLlamaConfig, TowerPlan, int], torch.nn.Module]


def _alone(
    stage: Stage, config: EmotionLlamaConfig, plan: TowerPlan, seed: int, path: Path
) -> None:
    torch.set_num_threads(1)
    part = path.with_suffix(".part")  # so that a file with the final name is complete
    torch.save(stage(config, plan, seed).state_dict(), part)
    part.rename(path)


def _train_face(config: EmotionLlamaConfig, plan: TowerPlan, seed: int) -> torch.nn.Module:
    faces = make_faces(plan.num_faces, seed, IMAGE_SIZE)
    held_out = make_faces(plan.num_held_out, seed + HELD_OUT_SEED, IMAGE_SIZE)
    return train_face_tower(config, faces, held_out, plan.face_steps, seed)


def _train_voice(config: EmotionLlamaConfig, plan: TowerPlan, seed: int) -> torch.nn.Module:
    voices = make_voices(plan.num_voices, seed)
    held_out = make_voices(plan.num_held_out, seed + HELD_OUT_SEED)
    return train_voice_tower(config, voices, held_out, plan.voice_steps, seed)
