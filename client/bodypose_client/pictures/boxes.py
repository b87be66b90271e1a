"""Boxes on pictures: one around each person, with its rank and score."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bodypose_client.formats import DISPLAY_MIN_SCORE
from pose_runtime.poses import Poses

Pixels = NDArray[np.uint8]

_LIGHT = (245, 248, 252)
_DARK = (16, 20, 28)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PIXELS = 22  # height of a capital letter at scale 1
_TEXT_PER_PICTURE = 1 / 60  # of the root of the picture's area
_SMALLEST_TEXT = 8.0  # pixels
_MARGIN = 0.06  # around the joints, of the box's longer side


def draw_boxes(image: Pixels, poses: Poses, *, min_score: float = DISPLAY_MIN_SCORE) -> Pixels:
    """A copy of the picture with a box around each person's joints, labelled with rank and score.

    Args:
        image: RGB (height, width, 3).
        poses: in the pixels of `image`.
        min_score: people below this score are left out.
    """
    drawn = image.copy()
    people = poses.above(min_score)
    text_px = max(
        _SMALLEST_TEXT, float(np.sqrt(drawn.shape[0] * drawn.shape[1])) * _TEXT_PER_PICTURE
    )
    line = max(1, round(text_px / 9))
    for rank in range(len(people), 0, -1):
        left, top, right, bottom = _corners(people.boxes[rank - 1], drawn.shape)
        cv2.rectangle(drawn, (left, top), (right, bottom), _DARK, line + 2)
        cv2.rectangle(drawn, (left, top), (right, bottom), _LIGHT, line)
        _label(drawn, (left, top), f"{rank}  {people.scores[rank - 1]:.2f}", text_px)
    return drawn


def _corners(box: NDArray[np.float32], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    x, y, width, height = (float(side) for side in box)
    margin = max(width, height) * _MARGIN + 2
    left, right = np.clip((x - margin, x + width + margin), 0, shape[1] - 1)
    top, bottom = np.clip((y - margin, y + height + margin), 0, shape[0] - 1)
    return round(left), round(top), round(right), round(bottom)


def _label(image: Pixels, corner: tuple[int, int], text: str, text_px: float) -> None:
    """Dark text on a light plate, above the corner, or below it at the picture's upper edge."""
    scale, weight = text_px / _FONT_PIXELS, max(1, round(text_px / 9))
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, weight)
    pad = round(text_px * 0.45)
    left = min(corner[0], max(0, image.shape[1] - width - 2 * pad))
    top = max(0, corner[1] - height - 2 * pad)
    plate = (left, top), (left + width + 2 * pad, top + height + 2 * pad)
    cv2.rectangle(image, *plate, _LIGHT, cv2.FILLED)
    place = (left + pad, top + pad + height)
    cv2.putText(image, text, place, _FONT, scale, _DARK, weight, cv2.LINE_AA)
