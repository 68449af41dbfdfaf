"""Writes and reads preprocessed clips: an npz of the frame and the waveform."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.errors import ClipTooLargeError, InvalidRequestError, UndecodableClipError
from serve_app.media.audio import MIN_SAMPLES
from serve_app.media.container import PADDING_S, check_duration
from serve_app.media.decode import content_sha256, missing_parts
from serve_app.media.npz import read_npz
from serve_app.settings import PREPROCESSED, MediaSettings
from serve_app.types import SAMPLE_RATE, Clip

ZIP_MAGIC = b"PK\x03\x04"
IMAGE, WAVEFORM = "image_u8", "waveform_i16"
DTYPES: dict[str, np.dtype[Any]] = {IMAGE: np.dtype(np.uint8), WAVEFORM: np.dtype(np.int16)}
OVERHEAD_BYTES = 65_536  # names, headers and the overhead of compression

NOTE = "preprocessed: which frame and audio mode it was made with is not known"


def write_preprocessed(clip: Clip, path: Path) -> None:
    """Write a clip's `image_u8` (S, S, 3) and `waveform_i16` (num_samples,), without missing parts.

    The file is written atomically. Raises InvalidRequestError where it cannot be written.
    """
    parts = {IMAGE: clip.frame, WAVEFORM: clip.waveform}
    arrays: dict[str, Any] = {name: part for name, part in parts.items() if part is not None}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "xb") as file:
            np.savez(file, **arrays)
        unfinished.replace(path)
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def is_preprocessed(data: bytes, settings: MediaSettings) -> bool:
    """Whether the settings allow preprocessed clips and `data` looks like one."""
    return PREPROCESSED in settings.containers and data.startswith(ZIP_MAGIC)


def read_preprocessed(data: bytes, settings: MediaSettings, image_size: int) -> Clip:
    """Read what `write_preprocessed` wrote: a clip with the same content hash.

    Raises ClipTooLargeError, ClipOverLimitError, UndecodableClipError.
    """
    _check_size(len(data), settings, image_size)

    def check(name: str, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> None:
        if dtype != DTYPES.get(name):
            raise UndecodableClipError(
                f"the npz holds {name[:40]!r} of {dtype}; "
                f"allowed are {IMAGE} of uint8 and {WAVEFORM} of int16"
            )
        _check_shape(name, shape, settings, image_size)

    arrays = read_npz(data, check)
    if not arrays:
        raise UndecodableClipError(f"the npz holds neither {IMAGE} nor {WAVEFORM}")
    frame, waveform = arrays.get(IMAGE), arrays.get(WAVEFORM)
    return Clip(
        sha256=hashlib.sha256(data).hexdigest(),
        content_sha256=content_sha256(frame, waveform),
        frame=frame,
        frame_time_s=None,
        waveform=waveform,
        duration_s=0.0 if waveform is None else len(waveform) / SAMPLE_RATE,
        missing=missing_parts(frame, waveform),
        notes=(NOTE,),
        audio_mode=None,
    )


def _check_size(num_bytes: int, settings: MediaSettings, image_size: int) -> None:
    """Refuse a file with more bytes than the largest arrays and their headers."""
    samples = (settings.max_duration_s + PADDING_S) * SAMPLE_RATE
    limit = round(samples) * DTYPES[WAVEFORM].itemsize + image_size**2 * 3 + OVERHEAD_BYTES
    if num_bytes > limit:
        raise ClipTooLargeError(f"the npz has {num_bytes} bytes; the limit is {limit} bytes")


def _check_shape(
    name: str, shape: tuple[int, ...], settings: MediaSettings, image_size: int
) -> None:
    if name == IMAGE:
        wanted = (image_size, image_size, 3)
        if shape != wanted:
            raise UndecodableClipError(f"{IMAGE} is {shape}; this model takes {wanted}")
    elif len(shape) != 1 or shape[0] < MIN_SAMPLES:
        raise UndecodableClipError(
            f"{WAVEFORM} is {shape}; it has one axis of {MIN_SAMPLES} or more"
        )
    else:
        check_duration(shape[0] / SAMPLE_RATE, settings)
