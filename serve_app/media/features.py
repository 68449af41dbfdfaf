"""Reads ready features of a clip from an npz file."""

from pathlib import Path

import numpy as np

from serve_app.errors import InvalidRequestError, UndecodableClipError
from serve_app.media.npz import read_npz
from serve_app.types import FEATURE_NAMES, Features

STACKED = "video_features"  # the original's array, with one row each for face, temporal and audio
MAX_FEATURE_SIZE = 65_536  # larger than any encoder's


def read_features(path: Path) -> Features:
    """Features (width,) float32, from arrays named as in FEATURE_NAMES or from the rows of STACKED.

    Raises:
        InvalidRequestError: no such file, another name, shape or type, or a number that is not finite.
    """
    try:
        arrays = read_npz(path.read_bytes(), _check)
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"features: {path} cannot be read: {error}") from error
    except (InvalidRequestError, UndecodableClipError) as error:
        raise InvalidRequestError(f"features: {path}: {error.message}") from error
    if not arrays or (STACKED in arrays and len(arrays) > 1):
        raise InvalidRequestError(f"features: {path} holds {sorted(arrays)}; one way, and only one")
    stacked = arrays.pop(STACKED, None)
    if stacked is not None:
        arrays |= zip(FEATURE_NAMES, stacked.reshape(len(FEATURE_NAMES), -1), strict=True)
    features = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
    for name, values in features.items():
        if not np.isfinite(values).all():
            raise InvalidRequestError(f"features: {name} in {path} is not finite throughout")
    return features


def _check(name: str, shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> None:
    rows = {STACKED: len(FEATURE_NAMES)} | dict.fromkeys(FEATURE_NAMES, 1)
    expected = rows.get(name)
    if expected is None:
        raise InvalidRequestError(f"unknown name {name}; known are {', '.join(rows)}")
    num_values = int(np.prod(shape))
    fits = shape[-1:] and num_values == expected * shape[-1] <= expected * MAX_FEATURE_SIZE
    if not fits or dtype.kind != "f":
        raise InvalidRequestError(
            f"{name} is {shape} {dtype}; expected {expected} x width of a float type"
        )
