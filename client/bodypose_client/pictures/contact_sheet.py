"""The contact sheet: pairs of pictures, annotated people beside found ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .drawing import draw_poses

Pixels = NDArray[np.uint8]

_COLUMNS = 2
_PICTURE_HW = (270, 360)
_CAPTION_PX = 26
_GAP = 10
_PAPER = (250, 250, 248)
_INK = (28, 32, 40)
_MAT = (226, 228, 230)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class Case:
    """One image of the sheet."""

    captions: tuple[str, str]  # of what was annotated, of what was found
    pixels: Pixels
    annotated: Poses
    found: Poses


def contact_sheet(cases: Sequence[Case], skeleton: Skeleton) -> Pixels:
    """RGB; each case is its picture twice, annotated people left and found people right."""
    cells = [_cell(case, skeleton) for case in cases]
    height, width = cells[0].shape[:2]
    rows = -(-len(cells) // _COLUMNS)
    columns = min(_COLUMNS, len(cells))
    sheet = np.full(
        (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), _PAPER, np.uint8
    )
    for index, cell in enumerate(cells):
        top = _GAP + (index // _COLUMNS) * (height + _GAP)
        left = _GAP + (index % _COLUMNS) * (width + _GAP)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def _cell(case: Case, skeleton: Skeleton) -> Pixels:
    pictures = [
        _fitted(draw_poses(pixels, poses, skeleton, min_score=0))
        for pixels, poses in (
            _smaller(case.pixels, poses) for poses in (case.annotated, case.found)
        )
    ]
    strip = np.full((_CAPTION_PX, 2 * _PICTURE_HW[1], 3), _PAPER, np.uint8)
    for caption, left in zip(case.captions, (0, _PICTURE_HW[1]), strict=True):
        place = (left + 2, _CAPTION_PX - 9)
        cv2.putText(strip, caption, place, _FONT, 0.42, _INK, 1, cv2.LINE_AA)
    return np.concatenate([strip, np.concatenate(pictures, axis=1)])


def _smaller(pixels: Pixels, poses: Poses) -> tuple[Pixels, Poses]:
    """At the sheet's scale and with every joint found solid, so that lines can be seen."""
    height, width = pixels.shape[:2]
    scale = min(_PICTURE_HW[0] / height, _PICTURE_HW[1] / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    moved = poses.keypoints * np.array([size[0] / width, size[1] / height, 1], np.float32)
    moved[:, :, 2] = poses.found
    return np.asarray(small, np.uint8), Poses(moved, poses.scores)


def _fitted(picture: Pixels) -> Pixels:
    mat = np.full((*_PICTURE_HW, 3), _MAT, np.uint8)
    top = (_PICTURE_HW[0] - picture.shape[0]) // 2
    left = (_PICTURE_HW[1] - picture.shape[1]) // 2
    mat[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return mat
