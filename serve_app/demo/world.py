"""Writes many demonstration clips: complete, noisy, without a track, or combined from two clips."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from serve_app.demo.clips import Scene, write_scene
from serve_app.demo.movie import FRAMES_PER_S, SAMPLES_PER_S, combine, write_clip

BLACK_SECONDS = 2
SILENCE_SECONDS = 2
Pair = tuple[Path | None, Path | None]  # picture from the first, sound from the second


def write_scenes(scenes: Sequence[Scene], folder: Path) -> list[Path]:
    """Writes scenes on all cores; returns files in order. Existing files are kept: scenes never change."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(partial(_write, folder=folder), scenes, chunksize=8))


def _write(scene: Scene, folder: Path) -> Path:
    path = folder / scene.name
    if not path.exists():
        parts = folder / "parts"  # so that a file with the final name is complete
        parts.mkdir(exist_ok=True)
        write_scene(scene, parts).rename(path)
    return path


def write_pairs(pairs: Iterable[Pair], folder: Path) -> list[Path]:
    """Combines the tracks of each pair of files into one file; returns the files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    return list(starmap(partial(_combine, folder=folder), pairs))


def _combine(picture: Path | None, sound: Path | None, folder: Path) -> Path:
    names = ["none" if path is None else path.stem for path in (picture, sound)]
    return combine(picture, sound, folder / f"{'+'.join(names)}.mp4")


def write_black(folder: Path) -> Path:
    """Writes a video track that is black."""
    black = np.zeros((192, 256, 3), np.uint8)
    return write_clip(folder / "black.mp4", [black] * (BLACK_SECONDS * FRAMES_PER_S))


def write_silence(folder: Path) -> Path:
    """Writes a silent sound track."""
    silence = np.zeros(SILENCE_SECONDS * SAMPLES_PER_S, np.float32)
    return write_clip(folder / "silence.mp4", sounds=[silence])
