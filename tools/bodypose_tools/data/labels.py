"""Training labels: people become heatmaps, part affinity fields and a loss mask.

Cell (r, c) of a field of stride s stands for the network pixel ((c + 0.5) * s, (r + 0.5) * s), by
the project's convention that pixel centres are at + 0.5. Part affinity fields and masks have
`STRIDE`; heatmaps may be finer, because joints are located in them alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.networks.fields import STRIDE
from pose_runtime.skeleton import Skeleton

Floats = NDArray[np.float32]

# Heatmap values below this are set to 0 (BodyPoseNet's label processor).
_MIN_HEAT = 0.001
# Heatmap value of cells that may hold a joint of which the annotation has no label.
UNKNOWN = -1.0
_SHORTEST_LIMB = 1e-3  # network pixels; a shorter one has no direction
_DRAWN = 0.1  # a cell with more belongs to a joint
# The joint whose Gaussian has the width of the spec: a shoulder, by its OKS sigma in COCO.
_REFERENCE_OKS_SIGMA = 0.079
_MIN_WIDTH, _MAX_WIDTH = 0.6, 1.2


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """How labels are drawn; names as in BodyPoseNet's `label_processor_config`."""

    heatmap_gaussian_sigma: float = 5.0  # network pixels, of a shoulder
    paf_ortho_dist_thresh: float = 1.0  # half width of a limb, in cells of a part affinity field
    heatmap_stride: int = 4  # network pixels per cell of a heatmap; the network decides


def draw_heatmaps(
    joints: Floats, skeleton: Skeleton, network_hw: tuple[int, int], settings: LabelSettings
) -> Floats:
    """Ideal heatmaps for the people of one image.

    A joint's Gaussian is as wide as annotators are uncertain: in proportion to the root of its OKS
    sigma, 3 px for an eye where a shoulder has 5 (the widths that MoveNet's heatmaps have).

    Args:
        joints: (N, J, 3), x, y in network pixels; a joint counts when its third number is > 0.
        skeleton: joints and their OKS sigmas.
        network_hw: H, W.
        settings: Gaussian width and stride.

    Returns:
        (h, w, J + 1) float32: the maximum over people, and the background last.
    """
    relative = np.sqrt(np.array(skeleton.sigmas, np.float32) / _REFERENCE_OKS_SIGMA)
    widths = settings.heatmap_gaussian_sigma * np.clip(relative, _MIN_WIDTH, _MAX_WIDTH)
    heatmaps = _gaussians(joints, widths, network_hw, settings.heatmap_stride)
    background = 1 - heatmaps.max(axis=0, keepdims=True)
    return np.concatenate([heatmaps, background]).transpose(1, 2, 0)


def draw_centres(centres: Floats, network_hw: tuple[int, int], settings: LabelSettings) -> Floats:
    """(h, w, 1): scores of person centres.

    Args:
        centres: (N, 3), x, y in network pixels, and > 0 where it lies in the image.
        network_hw: H, W.
        settings: Gaussian width and stride.
    """
    width = np.array([settings.heatmap_gaussian_sigma], np.float32)
    return _gaussians(centres[:, None], width, network_hw, settings.heatmap_stride)[0][:, :, None]


def draw_affinity(
    joints: Floats, skeleton: Skeleton, network_hw: tuple[int, int], settings: LabelSettings
) -> Floats:
    """Ideal part affinity fields for the people of one image.

    Returns:
        (h, w, 2L) float32; where limbs of the same kind overlap, their unit vectors are averaged.

    Source: Cao et al. 2017 (arXiv:1611.08050), equations 8-9.
    """
    centres_y, centres_x = _cell_centres(network_hw, STRIDE)
    affinity = np.zeros((2 * skeleton.num_limbs, len(centres_y), len(centres_x)), np.float32)
    half_width = settings.paf_ortho_dist_thresh * STRIDE
    _draw_limbs(affinity, joints, skeleton, centres_x, centres_y, half_width)
    return affinity.transpose(1, 2, 0)


def _cell_centres(network_hw: tuple[int, int], stride: int) -> tuple[Floats, Floats]:
    rows, columns = (
        (np.arange(size // stride, dtype=np.float32) + 0.5) * stride for size in network_hw
    )
    return rows, columns


def loss_mask(ignored_boxes: Floats, heatmaps: Floats, affinity: Floats) -> Floats:
    """(h, w, 1) on the part affinity fields' grid: 0 where the annotation is incomplete, else 1.

    Args:
        ignored_boxes: (K, 4) x, y, width, height in network pixels of crowds and of people
            without labelled joints.
        heatmaps: from `draw_heatmaps`.
        affinity: from `draw_affinity`: cells with a drawn joint or limb always count.
    """
    height, width = affinity.shape[:2]
    mask = np.ones((height, width), np.float32)
    for x, y, box_width, box_height in ignored_boxes / STRIDE:
        rows = slice(max(0, int(np.floor(y))), max(0, int(np.ceil(y + box_height))))
        columns = slice(max(0, int(np.floor(x))), max(0, int(np.ceil(x + box_width))))
        mask[rows, columns] = 0
    fine = heatmaps.shape[0] // height
    is_joint = heatmaps[:, :, -1] < 1 - _DRAWN  # the background is 1 - maximum
    drawn = is_joint.reshape(height, fine, width, fine).any(axis=(1, 3))
    drawn |= (affinity != 0).any(axis=2)
    return np.where(drawn, np.float32(1), mask)[:, :, None]


def forget_unlabelled(
    heatmaps: Floats, unlabelled: NDArray[np.bool_], boxes: Floats, network_hw: tuple[int, int]
) -> None:
    """Write `UNKNOWN` into the boxes of people, for joints without a label.

    Annotators skip joints that they cannot see, and COCO's AP ignores them. If such
    cells were labelled 0, the network would learn low scores for all joints that are hard to see.

    Args:
        heatmaps: (h, w, J + 1) from `draw_heatmaps`, changed in place; joints drawn there stay.
        unlabelled: (N, J), also of joints outside the image.
        boxes: (N, 4) x, y, width, height in network pixels.
        network_hw: H, W.
    """
    stride = network_hw[0] / heatmaps.shape[0]
    low = np.clip(np.floor(boxes[:, :2] / stride), 0, None).astype(int)
    high = np.clip(np.ceil((boxes[:, :2] + boxes[:, 2:]) / stride), 0, None).astype(int)
    for (x0, y0), (x1, y1), missing in zip(low, high, unlabelled, strict=True):
        window = heatmaps[y0:y1, x0:x1, :-1]
        np.copyto(window, UNKNOWN, where=(window < _DRAWN) & missing)


def _gaussians(points: Floats, widths: Floats, network_hw: tuple[int, int], stride: int) -> Floats:
    """(J, h, w): per kind of point the maximum over people. Source: Cao et al., equations 6-7.

    Args:
        points: (N, J, 3).
        widths: (J,), standard deviations in network pixels.
        network_hw: H, W.
        stride: network pixels per cell.
    """
    centres_y, centres_x = _cell_centres(network_hw, stride)
    drawn = np.zeros((points.shape[1], len(centres_y), len(centres_x)), np.float32)
    spread = 2 * widths[:, None] ** 2
    gauss_x = np.exp(-((centres_x - points[:, :, :1]) ** 2) / spread)
    gauss_y = np.exp(-((centres_y - points[:, :, 1:2]) ** 2) / spread)
    reach = (widths * math.sqrt(2 * math.log(1 / _MIN_HEAT)))[:, None]
    low, high = points[:, :, :2] - reach, points[:, :, :2] + reach
    first, last = _cells_between(low, high, stride)
    for person, kind in np.argwhere(points[:, :, 2] > 0).tolist():
        (x0, y0), (x1, y1) = first[person][kind], last[person][kind]
        window = drawn[kind, y0:y1, x0:x1]
        at_x, at_y = gauss_x[person, kind, x0:x1], gauss_y[person, kind, y0:y1, None]
        np.maximum(window, at_y * at_x, out=window)
    drawn[drawn < _MIN_HEAT] = 0
    return drawn


def _cells_between(low: Floats, high: Floats, stride: int) -> tuple[list[Any], list[Any]]:
    """First cell, and the one after the last, whose centres lie between points in pixels."""
    first = np.maximum(np.ceil(low / stride - 0.5), 0).astype(int)
    last = np.maximum(np.floor(high / stride - 0.5) + 1, 0).astype(int)
    return first.tolist(), last.tolist()


def _draw_limbs(
    affinity: Floats,
    joints: Floats,
    skeleton: Skeleton,
    centres_x: Floats,
    centres_y: Floats,
    half_width: float,
) -> None:
    counts = np.zeros((skeleton.num_limbs, len(centres_y), len(centres_x)), np.float32)
    ends = np.array(skeleton.limbs)
    a, b = joints[:, ends[:, 0]], joints[:, ends[:, 1]]  # (N, L, 3)
    along = b[:, :, :2] - a[:, :, :2]
    lengths = np.hypot(along[:, :, 0], along[:, :, 1])
    drawable = (a[:, :, 2] > 0) & (b[:, :, 2] > 0) & (lengths >= _SHORTEST_LIMB)
    units = (along / np.maximum(lengths, _SHORTEST_LIMB)[:, :, None]).tolist()
    starts = a[:, :, :2].tolist()
    low = np.minimum(a, b)[:, :, :2] - half_width
    high = np.maximum(a, b)[:, :, :2] + half_width
    first, last = _cells_between(low, high, STRIDE)
    for person, limb in np.argwhere(drawable).tolist():
        (x0, y0), (x1, y1) = first[person][limb], last[person][limb]
        (x, y), (unit_x, unit_y) = starts[person][limb], units[person][limb]
        across = (centres_x[x0:x1] - x) * unit_y - (centres_y[y0:y1, None] - y) * unit_x
        inside = (np.abs(across) <= half_width).astype(np.float32)
        affinity[2 * limb, y0:y1, x0:x1] += inside * unit_x
        affinity[2 * limb + 1, y0:y1, x0:x1] += inside * unit_y
        counts[limb, y0:y1, x0:x1] += inside
    for axis in (0, 1):
        affinity[axis::2] /= np.maximum(counts, 1)
