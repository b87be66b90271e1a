"""Owns the votes: what a person's middle says about where the joints are, as scores of limbs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from .gather import gather

_LEAST_SIZE = 16.0  # network pixels; a smaller person's joints are not told apart more finely


class VoteScorer(keras.layers.Layer):
    """Middles of people, their offsets and peaks to a score for every pair of peaks of every limb.

    In: middles (B, P, 3), x, y in network pixels and score; offsets (B, h, w, 2J) in cells; peaks
    (B, J, P, 3). Out: (B, L, P, P) in 0..1. A middle expects each joint where its offset points;
    a peak agrees with it by a Gaussian of the distance, as wide as `tolerance` times the size of
    the expected person. Two peaks score what the middle that likes both best thinks of them: the
    geometric mean of the two agreements, times the middle's own score.

    Source: offsets from a person's middle are CenterNet's (Zhou et al. 2019, arXiv:1904.07850)
    and MoveNet's; there they are the joints, here they only say which peaks belong together.
    """

    def __init__(
        self,
        limbs: tuple[tuple[int, int], ...],
        tolerance: float,
        min_centre: float,
        stride: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.limbs = tuple((int(a), int(b)) for a, b in limbs)
        self.tolerance = tolerance
        self.min_centre = min_centre
        self.stride = stride

    def call(self, middles: Any, offsets: Any, peaks: Any) -> Any:
        height, width, channels = offsets.shape[1:]
        cells = ops.floor(middles[..., :2] / self.stride)
        columns = ops.clip(cells[..., 0], 0, width - 1)
        rows = ops.clip(cells[..., 1], 0, height - 1)
        size = height * width
        images = ops.cast(ops.arange(ops.shape(offsets)[0]), "int32")[:, None, None]
        channel = np.arange(channels, dtype=np.int32)[None, :, None] * size
        where = ops.cast(rows * width + columns, "int32")[:, None] + (
            channel + images * (channels * size)
        )
        # Channels first, as exported graphs compute: to turn all offsets costs more than the rest.
        said = gather(ops.reshape(ops.transpose(offsets, (0, 3, 1, 2)), (-1,)), where)
        said = ops.reshape(said, (-1, channels // 2, 2, middles.shape[1]))
        # Axes from here on: (B, J, P, middles).
        x = (said[:, :, 0] + columns[:, None] + 0.5) * self.stride
        y = (said[:, :, 1] + rows[:, None] + 0.5) * self.stride
        box = (ops.max(x, 1) - ops.min(x, 1)) * (ops.max(y, 1) - ops.min(y, 1))
        spread = 2 * self.tolerance**2 * ops.maximum(box, _LEAST_SIZE**2)[:, None, None]
        away = ops.square(peaks[..., 0:1] - x[:, :, None]) + ops.square(
            peaks[..., 1:2] - y[:, :, None]
        )
        weight = ops.where(middles[..., 2] > self.min_centre, middles[..., 2], 0.0)
        weight = ops.sqrt(weight)[:, None, None]
        # The root of an agreement, so that the product of two is their geometric mean.
        agreement = ops.exp(-0.5 * away / spread) * weight
        agreement = ops.where(peaks[..., 2:] > 0, agreement, 0.0)
        first = gather(agreement, np.array([a for a, _ in self.limbs], np.int32), axis=1)
        second = gather(agreement, np.array([b for _, b in self.limbs], np.int32), axis=1)
        return ops.max(first[:, :, :, None] * second[:, :, None], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "limbs": self.limbs,
            "tolerance": self.tolerance,
            "min_centre": self.min_centre,
            "stride": self.stride,
        }
