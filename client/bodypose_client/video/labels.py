"""Track ids on pictures: a plate above each person, in a colour that stays with the id."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pose_runtime.poses import Poses

Pixels = NDArray[np.uint8]

_FONT = cv2.FONT_HERSHEY_DUPLEX
_FONT_PIXELS = 22  # height of a capital letter at scale 1
_TEXT_PER_PICTURE = 1 / 55  # of the root of the picture's area
_SMALLEST_TEXT = 8.0  # pixels
_TURN = 0.618034  # golden ratio: hues of consecutive ids lie far apart
_DARK = (16, 20, 28)


def id_colour(track_id: int) -> tuple[int, int, int]:
    """A light RGB colour."""
    red, green, blue = colorsys.hls_to_rgb(track_id * _TURN % 1, 0.72, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_ids(image: Pixels, poses: Poses, track_ids: Sequence[int]) -> Pixels:
    """A copy of the picture with each person's id above its joints."""
    drawn = image.copy()
    picture = float(np.sqrt(image.shape[0] * image.shape[1]))
    text_px = max(_SMALLEST_TEXT, picture * _TEXT_PER_PICTURE)
    for (x, y, width, height), track_id in zip(poses.boxes, track_ids, strict=True):
        _plate(drawn, (float(x + width / 2), float(y - 0.06 * height)), track_id, text_px)
    return drawn


def _plate(image: Pixels, foot: tuple[float, float], track_id: int, text_px: float) -> None:
    """Dark text on a plate whose lower edge is centred on `foot`, moved into the picture."""
    scale, weight = text_px / _FONT_PIXELS, max(1, round(text_px / 11))
    (width, height), _ = cv2.getTextSize(str(track_id), _FONT, scale, weight)
    pad = round(text_px * 0.45)
    left = int(np.clip(foot[0] - width / 2 - pad, 0, max(0, image.shape[1] - width - 2 * pad)))
    top = int(np.clip(foot[1] - height - 2 * pad, 0, max(0, image.shape[0] - height - 2 * pad)))
    corner = left + width + 2 * pad, top + height + 2 * pad
    cv2.rectangle(image, (left, top), corner, id_colour(track_id), cv2.FILLED, cv2.LINE_AA)
    place = (left + pad, top + pad + height)
    cv2.putText(image, str(track_id), place, _FONT, scale, _DARK, weight, cv2.LINE_AA)
