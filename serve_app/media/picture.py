"""Turns a decoded frame into the pixels the model sees: upright, RGB, square."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from PIL import Image

from serve_app.media.container import check_size
from serve_app.settings import MediaSettings

# libav and Pillow both count angles counter-clockwise.
UPRIGHT = {
    90: Image.Transpose.ROTATE_90,
    -90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    -180: Image.Transpose.ROTATE_180,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame of the video at its full size."""

    image: Image.Image  # RGB, upright
    time_s: float  # from the start of the video


def upright_rgb(frame: VideoFrame, settings: MediaSettings) -> Image.Image:
    check_size(frame.width, frame.height, settings)
    rgb = frame.reformat(format="rgb24")
    plane: Any = rgb.planes[0]  # a buffer, but of a type unknown to Pillow's stubs
    size = (rgb.width, rgb.height)
    image = Image.frombuffer("RGB", size, plane, "raw", "RGB", plane.line_size, 1)
    turn = UPRIGHT.get(round(frame.rotation))
    return image if turn is None else image.transpose(turn)


def to_pixels(image: Image.Image, image_size: int) -> npt.NDArray[np.uint8]:
    """(image_size, image_size, 3). By Pillow's bicubic filter, as in the model's training."""
    square = image.resize((image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.uint8)
