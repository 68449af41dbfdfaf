"""Chooses the sharpest of several pictures, judged at the size the model sees."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from serve_app.media.picture import Picture


def sharpest(pictures: Iterable[Picture], image_size: int) -> Picture | None:
    """The sharpest picture. Takes them one by one, so that only two are in memory at a time."""
    return max(pictures, key=lambda picture: sharpness(picture.image, image_size), default=None)


def sharpness(image: Image.Image, image_size: int) -> float:
    """Variance of the Laplacian. Detail finer than the model's own pixels does not count."""
    factor = max(1, min(image.size) // image_size)
    grey = np.asarray(image.convert("L").reduce(factor), dtype=np.int16)
    centre = 4 * grey[1:-1, 1:-1]
    laplacian = centre - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(laplacian.var())
