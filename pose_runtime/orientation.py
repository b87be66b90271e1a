"""EXIF orientation: stored rows and columns become what a person sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def upright(image: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation.

    Args:
        image: (height, width, channels) as stored.
        orientation: EXIF's, 1..8; 1 is upright, from 5 on rows and columns change places.
    """
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
