"""The decoding layers: fields become `peaks` and `limb_scores` inside the network's graph.

The same Keras layers decode in training's validation, in `tools evaluate`, in ONNX Runtime and in
Triton. They use only operations that TensorRT parses (MaxPool, TopK, Gather, elementwise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from pose_runtime.errors import PoseError
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import GroupingSettings

from .centres import CentreMatcher
from .fields import STRIDE, Fields
from .gather import gather

# Below the difference of unequal cells, above float32's resolution at 1.
_TIE_STEP = 1e-6
_MIN_HEAT = 1e-4  # lower values are noise, and their logarithms large
_INSIDE = 0.01  # of a cell; above float32's resolution at the number of cells


class TooManyPeaks(PoseError):
    """More peaks are asked for than heatmaps have blocks of 2 x 2 cells."""


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """What is fixed inside the graph; thresholds that may change later live in grouping."""

    max_peaks: int = 20
    num_samples: int = 10  # points of the line integral, both ends included
    min_affinity: float = (
        0.05  # a point counts as on the limb above this (BodyPoseNet's paf_threshold)
    )
    min_on_limb: float = 0.8  # share of points that must be on the limb
    centre_share: float = 0.7  # of a limb's score; its part affinity field has the rest
    centre_tolerance: float = 0.1  # of a person's size; a peak so far from its place counts half
    min_centre: float = 0.1  # a person's centre below this is not used
    min_joint: float = GroupingSettings().min_peak_score  # a peak below this is no joint


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
        height, width = heatmaps.shape[1:3]
        # The ramp only decides between equal cells: the upper left one is higher.
        order = np.arange(height * width, dtype=np.float32).reshape(1, height, width, 1)
        ranked = heatmaps - _TIE_STEP * order
        is_peak = ops.max_pool(ranked, 3, strides=1, padding="same") <= ranked
        score = ops.maximum(heatmaps, 0.0) * ops.cast(is_peak, "float32")
        best, rows, columns = self._highest(score)

        middle_row = ops.clip(rows, 1, height - 2)
        middle_column = ops.clip(columns, 1, width - 2)
        steps = np.array([[-1, 0, 1], [-width, 0, width]], np.float32)
        across, down = rows * width + middle_column, middle_row * width + columns
        around = ops.stack([across, down], axis=-1)[..., None] + steps
        values = gather(_flat(heatmaps), _places(heatmaps, around))
        peak = ops.stack([columns, rows], axis=-1)
        middle = ops.stack([middle_column, middle_row], axis=-1)
        network_xy = _vertex(values, middle, peak) * self.stride
        return ops.concatenate([network_xy, ops.minimum(best, 1.0)[..., None]], axis=-1)

    def _highest(self, score: Any) -> tuple[Any, Any, Any]:
        """Score, row and column of the P best peaks of each joint, (B, J, P), from (B, h, w, J).

        No two peaks are neighbours, so that a block of 2 x 2 cells has one at most, and only a
        quarter of the numbers has to be sorted.
        """
        height, width = score.shape[1:3]
        blocks = ops.max_pool(score, 2, strides=2, padding="same")
        block_width = blocks.shape[2]
        by_joint = ops.reshape(
            _channels_first(blocks), (-1, score.shape[3], blocks.shape[1] * block_width)
        )
        best, block = ops.top_k(by_joint, self.max_peaks)
        block = ops.cast(block, "float32")  # exact: fewer than 2 ** 24 blocks
        block_row = ops.floor(block / block_width)
        row, column = 2 * block_row, 2 * (block - block_row * block_width)
        rows = ops.minimum(row[..., None] + np.array([0, 0, 1, 1], np.float32), height - 1)
        columns = ops.minimum(column[..., None] + np.array([0, 1, 0, 1], np.float32), width - 1)
        inside = gather(_flat(score), _places(score, (rows * width + columns)[..., None]))
        is_there = ops.cast(inside[..., 0] > 0, "float32")
        which = ops.max(is_there * np.array([0, 1, 2, 3], np.float32), axis=-1)
        down = ops.floor(which / 2)
        right = which - 2 * down
        # An odd side's last block sees its cells twice.
        return best, ops.minimum(row + down, height - 1), ops.minimum(column + right, width - 1)

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
        # Cells; just inside the field, so that no point of a line falls out of it.
        columns = ops.minimum(peaks[..., 0] / self.stride, width - _INSIDE)
        rows = ops.minimum(peaks[..., 1] / self.stride, height - _INSIDE)
        joints = ops.stack([columns, rows, peaks[..., 2]], axis=1)
        first = gather(joints, np.array([a for a, _ in self.limbs], np.int32), axis=2)
        second = gather(joints, np.array([b for _, b in self.limbs], np.int32), axis=2)
        # Axes from here on: (B, point on the line, L, P of the first joint, P of the second).
        start_x, start_y, first_score = (first[:, axis, None, :, :, None] for axis in range(3))
        end_x, end_y, second_score = (second[:, axis, None, :, None, :] for axis in range(3))
        line_x, line_y = end_x - start_x, end_y - start_y
        steps = np.linspace(0, 1, self.num_samples, dtype=np.float32).reshape(1, -1, 1, 1, 1)
        row = ops.floor(start_y + line_y * steps)
        size = height * width
        # Clipped for NaN only, which as an integer lies far outside the field.
        cell = ops.cast(row * width + (start_x + line_x * steps), "int32")
        cell = ops.clip(cell, 0, size - 1)
        limb = np.arange(len(self.limbs), dtype=np.int32).reshape(1, 1, -1, 1, 1) * (2 * size)
        where_x = cell + (limb + _first_of_each_image(affinity, 2 * size * len(self.limbs), rank=5))
        # One channel after the other: numbers are gathered faster than pairs.
        field = ops.reshape(_channels_first(affinity), (-1,))
        length = ops.maximum(ops.sqrt(line_x * line_x + line_y * line_y), 1e-3)
        along = gather(field, where_x) * (line_x / length)
        along = along + gather(field, where_x + size) * (line_y / length)
        on_limb = ops.mean(ops.cast(along > self.min_affinity, "float32"), axis=1)
        score = ops.clip(ops.mean(along, axis=1), 0.0, 1.0)
        both = ops.minimum(first_score, second_score)[:, 0] > 0
        is_limb = ops.logical_and(both, on_limb >= self.min_on_limb - 1e-6)
        return score * ops.cast(is_limb, "float32")

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
    fields: Fields, skeleton: Skeleton, settings: DecodeSettings, network_hw: tuple[int, int]
) -> tuple[Any, Any]:
    """`peaks` and `limb_scores` from the last stage's fields, symbolic or real.

    A limb scores the mean of its part affinity field along the line or, where the network predicts
    person centres, a weighted mean of that and of the centres' score. There peaks are completed,
    too: joints that a person's centre expects and that have no peak (`CentreMatcher`).

    NaN or infinity anywhere in a field that is used makes all of that image's peaks NaN. Without
    that, a comparison or a maximum would drop it, and the image would have no people.

    Args:
        fields: of fixed height and width; heatmap channels beyond J are left out.
        skeleton: joints and limbs.
        settings: fixed inside the graph.
        network_hw: H, W of the network's input; with the fields' sizes it gives their strides.

    Raises:
        TooManyPeaks: more peaks than heatmaps of this size have.
    """
    heatmaps, affinity = fields.heatmaps[-1], fields.affinity[-1]
    height, width = heatmaps.shape[1:3]
    if settings.max_peaks > (possible := -(-height // 2) * -(-width // 2)):
        raise TooManyPeaks(
            f"--max-peaks: expected at most {possible}, as heatmaps of {height} x {width} cells"
            f" have, got {settings.max_peaks}"
        )
    stride = network_hw[0] // heatmaps.shape[1]
    decoder = PeakDecoder(settings.max_peaks, stride, name="peaks")
    peaks = decoder(heatmaps[..., : skeleton.num_joints])
    scorer = LimbScorer(
        skeleton.limbs,
        settings.num_samples,
        settings.min_affinity,
        settings.min_on_limb,
        network_hw[0] // affinity.shape[1],
        name="limb_scores",
    )
    if fields.centre is None:
        return peaks + _nan_unless_finite(heatmaps, affinity), scorer(affinity, peaks)
    # Layers keep their old names: exported nodes, and so the bytes of a graph, are named by them.
    centres = PeakDecoder(settings.max_peaks, stride, name="middles")(fields.centre)[:, 0]
    matcher = CentreMatcher(
        skeleton.limbs,
        settings.centre_tolerance,
        settings.min_centre,
        settings.min_joint,
        stride,
        name="votes",
    )
    peaks, matched = matcher(centres, fields.offsets, peaks)
    share = settings.centre_share
    scores = (1 - share) * scorer(affinity, peaks) + share * matched
    return peaks + _nan_unless_finite(heatmaps, affinity, fields.centre, fields.offsets), scores


def _nan_unless_finite(*fields: Any) -> Any:
    """(B, 1, 1, 1): 0, or NaN for an image with NaN or infinity in a field.

    A mean, because a sum of so many numbers is too large for float16.
    """
    means = (ops.mean(_channels_first(field), axis=(1, 2, 3), keepdims=True) for field in fields)
    return sum(0.0 * mean for mean in means)


def _channels_first(fields: Any) -> Any:
    """(B, h, w, C) to (B, C, h, w): the order of exported graphs, so there it costs nothing."""
    return ops.transpose(fields, (0, 3, 1, 2))


def _first_of_each_image(batch: Any, size: int, rank: int) -> Any:
    """Where each image starts in the flattened batch: (B, 1, ..., 1) int32 of `rank` axes."""
    images = ops.cast(ops.arange(ops.shape(batch)[0]), "int32")
    return ops.reshape(images * size, (-1,) + (1,) * (rank - 1))


def _flat(fields: Any) -> Any:
    """(B, h, w, C) as one row of numbers, channel after channel."""
    return ops.reshape(_channels_first(fields), (-1,))


def _places(fields: Any, cells: Any) -> Any:
    """Where `_flat(fields)` has the cells (B, C, P, ...) of five axes, row * w + column."""
    height, width, channels = fields.shape[1:]
    channel = np.arange(channels, dtype=np.int32).reshape(1, -1, 1, 1, 1) * (height * width)
    first = _first_of_each_image(fields, height * width * channels, rank=5)
    return ops.cast(cells, "int32") + (channel + first)


def _vertex(heat: Any, middle: Any, peak: Any) -> Any:
    """Centre of the Gaussian through three neighbouring cells, within half a cell of its peak.

    Args:
        heat: (..., 3), of the cells middle - 1, middle, middle + 1.
        middle: (...), index of the middle cell; at the border it is the peak's neighbour.
        peak: (...), index of the peak's cell.

    Returns:
        (...) in cells, whose centres are at + 0.5.
    """
    before, centre, after = (ops.maximum(heat[..., cell], _MIN_HEAT) for cell in range(3))
    # Logarithms of ratios: OpenVINO would move those of the cells themselves in front of the
    # gather, and take them of every cell of the field.
    slope, curvature = ops.log(before / after), ops.log(before * after / (centre * centre))
    offset = 0.5 * slope / ops.minimum(curvature, -1e-6) + (middle - peak)
    return peak + 0.5 + ops.clip(offset, -0.5, 0.5)
