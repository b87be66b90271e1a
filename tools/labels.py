"""Owns the training labels: people become heatmaps, part affinity fields and a loss mask.

One grid for both kinds of field: cell (r, c) of a field of stride s stands for the network pixel
((c + 0.5) * s, (r + 0.5) * s), by the project's convention that pixel centres are at + 0.5.
Channels: J heatmaps, background, then x and y of each limb's part affinity field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose_runtime.skeleton import Skeleton

Floats = NDArray[np.float32]

STRIDE = 8  # network pixels per field cell
# Heatmap values below this are set to 0 (BodyPoseNet's label processor).
_MIN_HEAT = 0.001


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """Names and defaults as in BodyPoseNet's `label_processor_config`."""

    heatmap_gaussian_sigma: float = 7.0  # network pixels
    paf_ortho_dist_thresh: float = 1.0  # half width of a limb, in field cells


def draw_fields(
    joints: Floats,
    skeleton: Skeleton,
    field_hw: tuple[int, int],
    settings: LabelSettings,
    stride: int = STRIDE,
) -> Floats:
    """Ideal network output for the people of one image.

    Args:
        joints: (N, J, 3), x, y in network pixels; a joint counts when its third number is > 0.
        skeleton: joints and limbs.
        field_hw: h, w.
        settings: Gaussian and limb widths.
        stride: network pixels per cell.

    Returns:
        (h, w, J + 1 + 2L) float32. Heatmaps are the maximum over people; where limbs of the same
        kind overlap their unit vectors are averaged.

    Source: Cao et al. 2017 (arXiv:1611.08050), equations 6-9.
    """
    num_joints = skeleton.num_joints
    fields = np.zeros((skeleton.num_fields, *field_hw), np.float32)
    centres_y = (np.arange(field_hw[0], dtype=np.float32) + 0.5) * stride
    centres_x = (np.arange(field_hw[1], dtype=np.float32) + 0.5) * stride
    _draw_heatmaps(fields[:num_joints], joints, centres_x, centres_y, settings)
    fields[num_joints] = 1 - fields[:num_joints].max(axis=0)
    _draw_affinity(
        fields[num_joints + 1 :],
        joints,
        skeleton,
        centres_x,
        centres_y,
        settings.paf_ortho_dist_thresh * stride,
    )
    return np.ascontiguousarray(fields.transpose(1, 2, 0))


def loss_mask(
    ignored_boxes: Floats, fields: Floats, num_joints: int, stride: int = STRIDE
) -> Floats:
    """(h, w, 1): 0 where the annotation says nothing, 1 elsewhere.

    Args:
        ignored_boxes: (K, 4) x, y, width, height in network pixels of crowds and of people
            without labelled joints.
        fields: (h, w, C) from `draw_fields`: cells with a drawn joint or limb always count.
        num_joints: J.
        stride: network pixels per cell.
    """
    height, width = fields.shape[:2]
    mask = np.ones((height, width), np.float32)
    for x, y, box_width, box_height in ignored_boxes / stride:
        rows = slice(max(0, int(np.floor(y))), max(0, int(np.ceil(y + box_height))))
        columns = slice(max(0, int(np.floor(x))), max(0, int(np.ceil(x + box_width))))
        mask[rows, columns] = 0
    drawn = (fields[:, :, :num_joints] > 0.1).any(axis=2)
    drawn |= (fields[:, :, num_joints + 1 :] != 0).any(axis=2)
    return np.where(drawn, np.float32(1), mask)[:, :, None]


def _draw_heatmaps(
    heatmaps: Floats,
    joints: Floats,
    centres_x: Floats,
    centres_y: Floats,
    settings: LabelSettings,
) -> None:
    spread = 2 * settings.heatmap_gaussian_sigma**2
    for person in joints:
        gauss_x = np.exp(-((centres_x - person[:, :1]) ** 2) / spread)
        gauss_y = np.exp(-((centres_y - person[:, 1:2]) ** 2) / spread)
        gauss_y *= person[:, 2:] > 0
        np.maximum(heatmaps, gauss_y[:, :, None] * gauss_x[:, None, :], out=heatmaps)
    heatmaps[heatmaps < _MIN_HEAT] = 0


def _draw_affinity(
    affinity: Floats,
    joints: Floats,
    skeleton: Skeleton,
    centres_x: Floats,
    centres_y: Floats,
    half_width: float,
) -> None:
    counts = np.zeros((skeleton.num_limbs, len(centres_y), len(centres_x)), np.float32)
    for person in joints:
        for limb, (first, second) in enumerate(skeleton.limbs):
            a, b = person[first], person[second]
            if a[2] <= 0 or b[2] <= 0:
                continue
            length = float(np.hypot(*(b[:2] - a[:2])))
            if length < 1e-3:
                continue
            unit = (b[:2] - a[:2]) / length
            window = _limb_window(a, b, half_width, centres_x, centres_y)
            along_x = centres_x[window[1]] - a[0]
            along_y = (centres_y[window[0]] - a[1])[:, None]
            across = np.abs(along_x * unit[1] - along_y * unit[0])
            inside = (across <= half_width).astype(np.float32)
            affinity[2 * limb][window] += inside * unit[0]
            affinity[2 * limb + 1][window] += inside * unit[1]
            counts[limb][window] += inside
    affinity /= np.maximum(np.repeat(counts, 2, axis=0), 1)


def _limb_window(
    a: Floats, b: Floats, margin: float, centres_x: Floats, centres_y: Floats
) -> tuple[slice, slice]:
    """Cells whose centres lie in the limb's bounding box widened by `margin` pixels."""
    low, high = np.minimum(a, b)[:2] - margin, np.maximum(a, b)[:2] + margin
    columns = slice(
        int(np.searchsorted(centres_x, low[0])), int(np.searchsorted(centres_x, high[0], "right"))
    )
    rows = slice(
        int(np.searchsorted(centres_y, low[1])), int(np.searchsorted(centres_y, high[1], "right"))
    )
    return rows, columns
