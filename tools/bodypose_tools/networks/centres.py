"""Person centres: which peaks belong together, and where joints without a peak are.

Each centre picks one peak for every joint. A joint for which it finds none is put where its offset
points, so that a person keeps an arm that the heatmaps do not show.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from .gather import gather

_LEAST_SIZE = 16.0  # network pixels; a smaller person's joints are not told apart more finely
_SAME = 1 - 1e-5  # of a maximum: a fused kernel may compute the same number twice, not equally
_REACH = 0.6  # of a person's size; a peak farther away is another person's
_LEAST_SEEN = 3  # joints; a centre that picks fewer peaks adds no joints
_ABOVE = 1e-3  # above the least score, so that rounding does not lose a joint


class CentreMatcher(keras.layers.Layer):
    """Person centres, their offsets and peaks to completed peaks and a score for every limb.

    In: centres (B, P, 3), x, y in network pixels and score, best first; offsets (B, h, w, 2J) in
    cells; peaks (B, J, P, 3), best first. Out: peaks (B, J, P, 3), scores (B, L, P, P) in 0..1.

    A centre expects each joint where its offset points. Of the peaks near there it picks the one
    with the largest score / (1 + distance / (`tolerance` x size of the expected person)). A peak
    that several centres pick belongs to the one whose value for it, times the root of the centre's
    score, is largest. Two peaks of one centre score the centre's score as a limb.

    A joint for which a centre has no peak becomes one where it is expected, if that is inside the
    network's input: in the last rows of `peaks`, as far as they hold nothing above `min_joint`.
    It scores half of the mean of the person's joints, missing ones counted as 0, and at least
    `min_joint`.

    Source: offsets from a person's centre are CenterNet's (Zhou et al. 2019, arXiv:1904.07850);
    picking peaks by score over distance, and joints without a peak, are MoveNet's. There a peak
    may be part of several people; here each has one owner, and part affinity fields still join
    the peaks that no centre picked.
    """

    def __init__(
        self,
        limbs: tuple[tuple[int, int], ...],
        tolerance: float,
        min_centre: float,
        min_joint: float,
        stride: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.limbs = tuple((int(a), int(b)) for a, b in limbs)
        self.tolerance = tolerance
        self.min_centre = min_centre
        self.min_joint = min_joint
        self.stride = stride

    def call(self, centres: Any, offsets: Any, peaks: Any) -> tuple[Any, Any]:
        num_peaks = peaks.shape[2]
        # Weakest first: the best centre fills the row of the weakest peak.
        centres = gather(centres, np.arange(num_peaks - 1, -1, -1, dtype=np.int32), axis=1)
        x, y = self._expected(centres, offsets)
        # Axes from here on: (B, J, P, centres).
        weight = ops.where(centres[..., 2] > self.min_centre, centres[..., 2], 0.0)
        weight = ops.sqrt(weight)[:, None, None]
        is_joint = peaks[..., 2] >= self.min_joint
        owned = self._owned(ops.where(is_joint, peaks[..., 2], 0.0), peaks, x, y, weight)

        is_seen = ops.max(owned, axis=2)
        total = ops.sum(owned * peaks[..., 2:], axis=(1, 2))
        score = ops.clip(0.5 * total / peaks.shape[1], self.min_joint + _ABOVE, 1.0)
        height, width = (side * self.stride for side in offsets.shape[1:3])
        is_inside = ops.logical_and(_is_between(x, width), _is_between(y, height))
        is_person = ops.sum(is_seen, axis=1, keepdims=True) >= _LEAST_SEEN
        is_missing = ops.logical_and(ops.logical_and(is_inside, is_person), is_seen < 0.5)
        # A centre's joint goes into the row of the same number.
        is_new = ops.logical_and(is_missing, ops.logical_not(is_joint))
        new = ops.stack([x, y, ops.broadcast_to(score[:, None], ops.shape(x))], axis=-1)
        completed = ops.where(is_new[..., None], new, peaks)
        owned = owned + ops.cast(is_new, "float32")[..., None] * np.eye(num_peaks, dtype=np.float32)

        claim = owned * weight
        first = gather(claim, np.array([a for a, _ in self.limbs], np.int32), axis=1)
        second = gather(claim, np.array([b for _, b in self.limbs], np.int32), axis=1)
        return completed, ops.max(first[:, :, :, None] * second[:, :, None], axis=-1)

    def _expected(self, centres: Any, offsets: Any) -> tuple[Any, Any]:
        """Where each centre expects each joint: x and y, (B, J, P) each, in network pixels."""
        height, width, channels = offsets.shape[1:]
        columns = ops.clip(ops.floor(centres[..., 0] / self.stride), 0, width - 1)
        rows = ops.clip(ops.floor(centres[..., 1] / self.stride), 0, height - 1)
        size = height * width
        images = ops.cast(ops.arange(ops.shape(offsets)[0]), "int32")[:, None, None]
        channel = np.arange(channels, dtype=np.int32)[None, :, None] * size
        # Clipped for NaN only, which as an integer lies far outside the field.
        cells = ops.clip(ops.cast(rows * width + columns, "int32"), 0, size - 1)
        where = cells[:, None] + (channel + images * (channels * size))
        # Channels first, as exported graphs compute: to turn all offsets costs more than the rest.
        offset = gather(ops.reshape(ops.transpose(offsets, (0, 3, 1, 2)), (-1,)), where)
        offset = ops.reshape(offset, (-1, channels // 2, 2, centres.shape[1]))
        x = (offset[:, :, 0] + columns[:, None] + 0.5) * self.stride
        y = (offset[:, :, 1] + rows[:, None] + 0.5) * self.stride
        return x, y

    def _owned(self, scores: Any, peaks: Any, x: Any, y: Any, weight: Any) -> Any:
        """1 where a peak is a centre's own, else 0, (B, J, P, centres); `scores` 0: no joint."""
        box = (ops.max(x, 1) - ops.min(x, 1)) * (ops.max(y, 1) - ops.min(y, 1))
        size = ops.sqrt(ops.maximum(box, _LEAST_SIZE**2))[:, None, None]
        across, down = peaks[..., 0:1] - x[:, :, None], peaks[..., 1:2] - y[:, :, None]
        distance = ops.sqrt(ops.square(across) + ops.square(down)) / size
        value = scores[..., None] / (1 + distance / self.tolerance)
        value = ops.where(distance < _REACH, value, 0.0) * weight
        picked = value * _is_largest(value, axis=2)
        return _is_largest(picked, axis=3)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "limbs": self.limbs,
            "tolerance": self.tolerance,
            "min_centre": self.min_centre,
            "min_joint": self.min_joint,
            "stride": self.stride,
        }


def _is_largest(numbers: Any, axis: int) -> Any:
    """1 where a number is the largest along an axis and above 0, else 0."""
    largest = ops.max(numbers, axis=axis, keepdims=True)
    return ops.cast(ops.logical_and(numbers > 0, numbers >= _SAME * largest), "float32")


def _is_between(numbers: Any, end: float) -> Any:
    """Whether numbers are between 0 and an end; NaN is not."""
    return ops.logical_and(numbers > 0, numbers < end)
