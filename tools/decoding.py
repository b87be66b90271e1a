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
        is_peak = ops.max_pool(heatmaps, 3, strides=1, padding="same") <= heatmaps
        is_peak &= heatmaps > _highest_before(heatmaps)
        score = ops.where(is_peak, ops.maximum(heatmaps, 0.0), 0.0)
        log_heat = ops.log(ops.maximum(heatmaps, 1e-4))
        offset_x = _parabola_offset(log_heat, axis=2)
        offset_y = _parabola_offset(log_heat, axis=1)

        def per_joint(field: Any) -> Any:
            return ops.reshape(ops.transpose(field, (0, 3, 1, 2)), (-1, joints, height * width))

        best, cells = ops.top_k(per_joint(score), self.max_peaks)
        rows = cells // width
        centre_x = ops.cast(cells - rows * width, "float32") + 0.5
        centre_y = ops.cast(rows, "float32") + 0.5
        x = (centre_x + ops.take_along_axis(per_joint(offset_x), cells, axis=2)) * self.stride
        y = (centre_y + ops.take_along_axis(per_joint(offset_y), cells, axis=2)) * self.stride
        return ops.stack([x, y, ops.minimum(best, 1.0)], axis=-1)

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
        num_limbs, num_peaks = len(self.limbs), peaks.shape[2]
        first = ops.take(peaks, np.array([a for a, _ in self.limbs], np.int32), axis=1)
        second = ops.take(peaks, np.array([b for _, b in self.limbs], np.int32), axis=1)
        start = ops.expand_dims(first[..., :2], 3)  # (B, L, P, 1, 2)
        line = ops.expand_dims(second[..., :2], 2) - start  # (B, L, P, P, 2)
        length = ops.sqrt(ops.sum(line * line, axis=-1, keepdims=True))
        unit = line / ops.maximum(length, 1e-3)

        steps = np.linspace(0, 1, self.num_samples, dtype=np.float32)[:, None]
        points = ops.expand_dims(start, 4) + ops.expand_dims(line, 4) * steps
        columns = ops.clip(ops.floor(points[..., 0] / self.stride), 0, width - 1)
        rows = ops.clip(ops.floor(points[..., 1] / self.stride), 0, height - 1)
        cells = ops.cast(rows * width + columns, "int32")
        cells = ops.reshape(cells, (-1, num_limbs, num_peaks**2 * self.num_samples))

        table = ops.reshape(
            ops.transpose(affinity, (0, 3, 1, 2)), (-1, num_limbs, 2, height * width)
        )
        shape = (-1, num_limbs, num_peaks, num_peaks, self.num_samples)
        field_x = ops.reshape(ops.take_along_axis(table[:, :, 0], cells, axis=2), shape)
        field_y = ops.reshape(ops.take_along_axis(table[:, :, 1], cells, axis=2), shape)
        along = field_x * unit[..., 0:1] + field_y * unit[..., 1:2]
        on_limb = ops.mean(ops.cast(along > self.min_affinity, "float32"), axis=-1)
        score = ops.clip(ops.mean(along, axis=-1), 0.0, 1.0)
        both = ops.expand_dims(first[..., 2] > 0, 3) & ops.expand_dims(second[..., 2] > 0, 2)
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


def _highest_before(values: Any) -> Any:
    """The highest of each cell's four neighbours that come before it in reading order."""
    height, width = values.shape[1:3]
    padded = ops.pad(values, [(0, 0), (1, 0), (1, 1), (0, 0)], constant_values=-1e9)
    above = padded[:, :height]
    return ops.maximum(
        ops.maximum(above[:, :, :width], above[:, :, 1 : width + 1]),
        ops.maximum(above[:, :, 2:], padded[:, 1:, :width]),
    )


def _parabola_offset(values: Any, axis: int) -> Any:
    """Offset in cells, within half a cell, of the vertex through each cell and its two neighbours.

    At the border the missing neighbour continues the parabola through the three cells inside.
    """
    size = values.shape[axis]

    def cells(start: int, stop: int) -> Any:
        window = [slice(None)] * 4
        window[axis] = slice(start, stop)
        return values[tuple(window)]

    def beyond(border: int, inwards: int) -> Any:
        near, next_, far = (
            cells(border + step * inwards, border + step * inwards + 1) for step in range(3)
        )
        return 3 * near - 3 * next_ + far

    before = ops.concatenate([beyond(0, 1), cells(0, size - 1)], axis=axis)
    after = ops.concatenate([cells(1, size), beyond(size - 1, -1)], axis=axis)
    curvature = ops.minimum(before - 2 * values + after, -1e-6)
    return ops.clip(0.5 * (before - after) / curvature, -0.5, 0.5)
