"""Stage 1: trains the vision tower to recognise faces, with heads that are discarded afterwards.

A small transformer does not learn to find brows and lips from class labels alone. It does if every patch must
also predict which landmark is near and where, and if at first all faces have the same position and size.
"""

import time

import torch
from torch import nn
from torch.nn import functional as F

from demo.architecture import Trainer, build_face_tower, see
from demo.data import FACE_NAMES, FaceSet
from serve_app.demo.faces import ACTION_UNITS, NUM_LANDMARKS
from serve_app.model.config import EmotionLlamaConfig

BATCH_SIZE = 64
LEARNING_RATE = 1e-3
WARM_UP = 100
RELEASED_AT = 0.35  # after this share of the steps faces stay where they were drawn
FIXED_POSE = torch.tensor([[0.33, 0.0, 0.5], [0.0, 0.33, 0.5]])
NEAR = 1.5  # patches
LOG_EVERY = 100


class FaceHeads(nn.Module):
    """Predicts the class from CLS and from the mean patch, action units, and landmarks from every patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cls = nn.Linear(width, len(FACE_NAMES))
        self.mean = nn.Linear(width, len(FACE_NAMES))
        self.units = nn.Linear(2 * width, len(ACTION_UNITS))
        self.dense = nn.Linear(width, 3 * NUM_LANDMARKS)  # whether each is near, and where (x, y)


def train_face_tower(
    config: EmotionLlamaConfig, faces: FaceSet, held_out: FaceSet, steps: int, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    tower = build_face_tower(config)
    heads = FaceHeads(config.vision_config.hidden_size)
    trainer = Trainer([tower, heads], steps, LEARNING_RATE, WARM_UP)
    grid = patch_centres(config.image_size // config.vision_config.patch_size)
    started = time.monotonic()
    for step in range(steps):
        chosen = torch.randint(len(faces.faces), (BATCH_SIZE,))
        released = min(1.0, step / max(1, RELEASED_AT * steps))
        frames, points = warp(faces, chosen, released)
        with torch.autocast("cpu", torch.bfloat16):
            cls, patches = see(tower, frames)
            loss = face_loss(heads, cls, patches, faces, chosen, points, grid)
        trainer.step(loss)
        if step % LOG_EVERY == 0 or step == steps - 1:
            score = accuracy(tower, heads, held_out)
            elapsed_s = time.monotonic() - started
            print(
                f"face  step {step}/{steps} loss {loss.item():.3f} held out {score:.3f} "
                f"{elapsed_s:.0f} s",
                flush=True,
            )
    return tower


def face_loss(
    heads: FaceHeads,
    cls: torch.Tensor,
    patches: torch.Tensor,
    faces: FaceSet,
    chosen: torch.Tensor,
    points: torch.Tensor,
    grid: torch.Tensor,
) -> torch.Tensor:
    """Loss of a batch: cls (B, width), patches (B, P, width), points (B, 15, 2), grid (P, 2)."""
    kind = torch.from_numpy(faces.faces)[chosen]
    units = torch.from_numpy(faces.units)[chosen]
    mean = patches.mean(dim=1)
    dense = heads.dense(patches).float().unflatten(-1, (NUM_LANDMARKS, 3))
    patch_size = 1 / len(grid) ** 0.5
    offsets = (points[:, None] - grid[:, None]) / patch_size  # (B, P, 15, 2) in patches
    near = (offsets.abs() < NEAR).all(dim=-1)
    miss = (dense[..., 1:] - offsets).abs().sum(dim=-1)
    loss: torch.Tensor = (
        F.cross_entropy(heads.cls(cls).float(), kind)
        + F.cross_entropy(heads.mean(mean).float(), kind)
        + 2 * F.mse_loss(heads.units(torch.cat([cls, mean], dim=-1)).float(), units)
        + 3 * F.binary_cross_entropy_with_logits(dense[..., 0], near.float())
        + 0.5 * (miss * near).sum() / near.sum().clamp(min=1)
    )
    return loss


def warp(
    faces: FaceSet, chosen: torch.Tensor, released: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames (B, S, S, 3) and landmarks with the faces moved towards the fixed pose.

    Args:
        released: 0 puts every face into the fixed pose, 1 leaves it nearly where it was drawn.
    """
    frames = torch.from_numpy(faces.frames)[chosen].float()
    points = torch.from_numpy(faces.landmarks)[chosen]
    pose = _square(torch.from_numpy(faces.poses)[chosen])
    jitter = torch.eye(3).repeat(len(chosen), 1, 1)
    jitter[:, :2] += torch.randn(len(chosen), 2, 3) * 0.03
    target = jitter @ _square(released * pose[:, :2] + (1 - released) * FIXED_POSE)
    # A picture without a face has no meaningful pose and stays as it is.
    target = torch.where((points[:, :1, :1] < -1), pose, target)
    back = pose @ torch.linalg.inv(target)  # new picture -> drawn picture, both 0..1
    centred = torch.tensor([[2.0, 0, -1], [0, 2, -1], [0, 0, 1]])  # for grid_sample's -1..1
    theta = (centred @ back @ torch.linalg.inv(centred))[:, :2]
    where = F.affine_grid(theta, [len(chosen), 3, *frames.shape[1:3]], align_corners=False)
    moved = F.grid_sample(
        frames.movedim(-1, 1), where, padding_mode="border", align_corners=False
    ).movedim(1, -1)
    forth = (target @ torch.linalg.inv(pose))[:, None]
    moved_points = (forth[..., :2, :2] @ points[..., None])[..., 0] + forth[..., :2, 2]
    return moved, moved_points


def _square(pose: torch.Tensor) -> torch.Tensor:
    """(B, 2, 3) -> (B, 3, 3)."""
    bottom = torch.tensor([0.0, 0.0, 1.0]).expand(len(pose), 1, 3)
    return torch.cat([pose, bottom], dim=1)


def patch_centres(patches_per_side: int) -> torch.Tensor:
    """(P, 2) x and y in 0..1, in raster order."""
    centres = (torch.arange(patches_per_side) + 0.5) / patches_per_side
    return torch.cartesian_prod(centres, centres).flip(-1)


@torch.no_grad()
def accuracy(tower: nn.Module, heads: FaceHeads, faces: FaceSet) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        cls, _ = see(tower, torch.from_numpy(faces.frames))
        answers = heads.cls(cls).argmax(dim=-1)
    return float((answers == torch.from_numpy(faces.faces)).float().mean())
