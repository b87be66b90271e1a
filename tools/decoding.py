"""Owns the decoding layers: fields become `peaks` and `limb_scores` inside the network's graph.

The same Keras layers decode in training's validation, in `tools evaluate`, in ONNX Runtime and in
Triton. They use only operations that TensorRT parses (MaxPool, TopK, Gather, elementwise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from pose_runtime.skeleton import Skeleton

from .labels import STRIDE

# Below what differs between cells that are not equal, above float32's resolution at 1.
_TIE_STEP = 1e-6
_MIN_HEAT = 1e-4  # the logarithm of less says nothing


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """What is fixed inside the graph; thresholds that may change later live in grouping."""

    max_peaks: int = 20
    num_samples: int = 10  # points of the line integral, both ends included
    min_affinity: float = (
        0.05  # a point counts as on the limb above this (BodyPoseNet's paf_threshold)
    )
    min_on_limb: float = 0.8  # share of points that must be on the limb


class PeakDecoder(keras.layers.Layer):
    """Heatmaps to the P best peaks per joint, with sub-pixel positions.

    In: (B, h, w, J). Out: (B, J, P, 3): x, y in network pixels, score; rows beyond the number of
    peaks score 0. A peak is a cell that no cell of its 3 x 3 neighbourhood exceeds; of equal cells
    the upper left one is the peak. Its position is refined per axis by a parabola through the
    logarithm of three cells, exact for a Gaussian.

    Source: parabola on log(heat): Zhang et al. 2020, DARK (arXiv:1910.06278), per axis.
    """

    def __init__(self, max_peaks: int, stride: int = STRIDE, **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.max_peaks = max_peaks
        self.stride = stride

    def call(self, heatmaps: Any) -> Any:
        height, width, joints = heatmaps.shape[1:]
        # So small a ramp only decides between equal cells: the upper left one is higher.
        order = np.arange(height * width, dtype=np.float32).reshape(1, height, width, 1)
        ranked = heatmaps - _TIE_STEP * order
        is_peak = ops.max_pool(ranked, 3, strides=1, padding="same") <= ranked
        score = ops.where(is_peak, ops.maximum(heatmaps, 0.0), 0.0)
        score = ops.reshape(ops.transpose(score, (0, 3, 1, 2)), (-1, joints, height * width))
        best, cells = ops.top_k(score, self.max_peaks)
        cells = ops.cast(cells, "float32")  # exact: fewer than 2 ** 24 cells
        rows = ops.floor(cells / width)
        columns = cells - rows * width

        middle_row = ops.clip(rows, 1, height - 2)
        middle_column = ops.clip(columns, 1, width - 2)
        around = [rows * width + middle_column + step for step in (-1, 0, 1)]
        around += [(middle_row + step) * width + columns for step in (-1, 0, 1)]
        first_cell = _first_of_each_image(heatmaps, height * width * joints, rank=4)
        channel = np.arange(joints, dtype=np.int32)[None, :, None, None]
        where = ops.cast(ops.stack(around, axis=-1), "int32") * joints + channel + first_cell
        values = ops.take(ops.reshape(heatmaps, (-1,)), where, axis=0)
        values = ops.log(ops.maximum(values, _MIN_HEAT))
        x = _vertex(values[..., 0:3], middle_column, columns)
        y = _vertex(values[..., 3:6], middle_row, rows)
        return ops.stack([x * self.stride, y * self.stride, ops.minimum(best, 1.0)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_peaks": self.max_peaks, "stride": self.stride}


class LimbScorer(keras.layers.Layer):
    """Part affinity fields and peaks to a score for every pair of peaks of every limb.

    In: affinity (B, h, w, 2L), peaks (B, J, P, 3). Out: (B, L, P, P) in 0..1: the mean of the
    field along the line between the two peaks, projected onto the line; 0 when fewer than
    `min_on_limb` of the points lie on the limb.

    Source: Cao et al. 2017 (arXiv:1611.08050), equations 10-11, with the share-of-points rule of
    OpenPose and BodyPoseNet.
    """

    def __init__(
        self,
        limbs: tuple[tuple[int, int], ...],
        num_samples: int,
        min_affinity: float,
        min_on_limb: float,
        stride: int = STRIDE,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.limbs = tuple((int(a), int(b)) for a, b in limbs)
        self.num_samples = num_samples
        self.min_affinity = min_affinity
        self.min_on_limb = min_on_limb
        self.stride = stride

    def call(self, affinity: Any, peaks: Any) -> Any:
        height, width = affinity.shape[1:3]
        limbs = len(self.limbs)
        first = ops.take(peaks, np.array([a for a, _ in self.limbs], np.int32), axis=1)
        second = ops.take(peaks, np.array([b for _, b in self.limbs], np.int32), axis=1)
        # Cells; axes are (B, point on the line, L, P of the first joint, P of the second).
        start_x, start_y = (first[:, None, :, :, None, axis] / self.stride for axis in (0, 1))
        line_x = second[:, None, :, None, :, 0] / self.stride - start_x
        line_y = second[:, None, :, None, :, 1] / self.stride - start_y
        steps = np.linspace(0, 1, self.num_samples, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        columns = ops.clip(ops.floor(start_x + line_x * steps), 0, width - 1)
        rows = ops.clip(ops.floor(start_y + line_y * steps), 0, height - 1)
        cells = ops.cast(rows * width + columns, "int32") * limbs
        limb = np.arange(limbs, dtype=np.int32).reshape(1, 1, -1, 1, 1)
        where = cells + limb + _first_of_each_image(affinity, height * width * limbs, rank=5)
        field = ops.take(ops.reshape(affinity, (-1, 2)), where, axis=0)
        length = ops.maximum(ops.sqrt(line_x * line_x + line_y * line_y), 1e-3)
        along = field[..., 0] * (line_x / length) + field[..., 1] * (line_y / length)
        on_limb = ops.mean(ops.cast(along > self.min_affinity, "float32"), axis=1)
        score = ops.clip(ops.mean(along, axis=1), 0.0, 1.0)
        both = (first[:, :, :, None, 2] > 0) & (second[:, :, None, :, 2] > 0)
        return ops.where(both & (on_limb >= self.min_on_limb - 1e-6), score, 0.0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "limbs": self.limbs,
            "num_samples": self.num_samples,
            "min_affinity": self.min_affinity,
            "min_on_limb": self.min_on_limb,
            "stride": self.stride,
        }


def decode_fields(
    heatmaps: Any, affinity: Any, skeleton: Skeleton, settings: DecodeSettings
) -> tuple[Any, Any]:
    """`peaks` and `limb_scores` from symbolic or real fields of fixed height and width.

    Args:
        heatmaps: (B, h, w, J or more); channels beyond J (the background) are left out.
        affinity: (B, h, w, 2L).
        skeleton: joints and limbs.
        settings: fixed inside the graph.
    """
    peaks = PeakDecoder(settings.max_peaks, name="peaks")(heatmaps[..., : skeleton.num_joints])
    scorer = LimbScorer(
        skeleton.limbs,
        settings.num_samples,
        settings.min_affinity,
        settings.min_on_limb,
        name="limb_scores",
    )
    return peaks, scorer(affinity, peaks)


def _first_of_each_image(batch: Any, size: int, rank: int) -> Any:
    """Where each image starts in the flattened batch: (B, 1, ..., 1) int32 of `rank` axes."""
    images = ops.cast(ops.arange(ops.shape(batch)[0]), "int32")
    return ops.reshape(images * size, (-1,) + (1,) * (rank - 1))


def _vertex(log_heat: Any, middle: Any, peak: Any) -> Any:
    """Centre of the Gaussian through three neighbouring cells, within half a cell of its peak.

    Args:
        log_heat: (..., 3), of the cells middle - 1, middle, middle + 1.
        middle: (...), index of the middle cell; at the border it is the peak's neighbour.
        peak: (...), index of the peak's cell.

    Returns:
        (...) in cells, whose centres are at + 0.5.
    """
    before, centre, after = log_heat[..., 0], log_heat[..., 1], log_heat[..., 2]
    curvature = ops.minimum(before - 2 * centre + after, -1e-6)
    offset = 0.5 * (before - after) / curvature + (middle - peak)
    return peak + 0.5 + ops.clip(offset, -0.5, 0.5)
