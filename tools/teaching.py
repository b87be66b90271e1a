"""Owns what a frozen teacher says to a batch: one look, or the mean of several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import keras
from keras import ops

from pose_runtime.skeleton import Skeleton

from .backbones import DEEPEST_STRIDE
from .field_frames import mirrored_channels
from .fields import Fields

_LEAST_PROBABILITY = 1e-4
_LEAST_WEIGHT = 1e-9  # of offsets far from any middle


class Teacher:
    """A frozen network that may see a batch in several sizes, and mirrored.

    What it says is in the cells of a network of `network_hw`: fields that are better than those of
    one look, for a student who has only one. That is the data distillation of Radosavovic et al.
    2018 (arXiv:1712.04440), here with labels beside it.

    An image and its mirror picture say the same, so their mean counts. Of several sizes often only
    one sees a person well: heatmaps and middles are half way from the mean to the maximum, as
    logits, each limb's vector is the longest, and offsets are those of the size whose middle is the
    surest (on 80 training images, sizes 1 and 2: AP 0.433, with means 0.371, of one size 0.395).
    """

    def __init__(
        self,
        network: keras.Model,
        skeleton: Skeleton,
        network_hw: tuple[int, int],
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        """Args:
        network: of `skeleton`, for any input size; it does not change.
        network_hw: height and width of the student's input.
        scales: sizes of the looks, relative to `network_hw`; the sides are rounded to
            multiples of 32 pixels.
        flip: whether it sees the mirror picture of each look, too.
        """
        network.trainable = False
        self.network = network
        self._hw = network_hw
        self._looks = [tuple(_rounded(side * scale) for side in network_hw) for scale in scales]
        self._mirror = mirrored_channels(skeleton) if flip else None

    def __call__(self, pixels: Any) -> Fields:
        """The fields of one stage.

        Args:
            pixels: (B, H, W, 3) uint8, `network_hw` or a multiple of it (`SampleSettings.detail`).
        """
        said = [self._in_own_cells(self._look(resized(pixels, hw)), hw) for hw in self._looks]
        if len(said) == 1:
            return said[0]
        heatmaps = _surest([fields.heatmaps[0] for fields in said])
        joints = heatmaps[..., :-1]
        background = 1 - ops.max(joints, axis=-1, keepdims=True)
        affinity = _longest([fields.affinity[0] for fields in said])
        votes: tuple[Any, ...] = ()
        if said[0].centre is not None:
            centres = [fields.centre for fields in said]
            votes = _surest(centres), _weighted([fields.offsets for fields in said], centres)
        return Fields((ops.concatenate([joints, background], axis=-1),), (affinity,), *votes)

    def _look(self, view: Any) -> Fields:
        """At one size, and its mirror picture."""
        said = self._fields(view)
        if self._mirror is None:
            return said
        other = self._unmirrored(self._fields(view[:, :, ::-1]))
        return Fields(
            (_mean(said.heatmaps + other.heatmaps),),
            (_mean(said.affinity + other.affinity),),
            None if said.centre is None else _mean((said.centre, other.centre)),
            None if said.offsets is None else _mean((said.offsets, other.offsets)),
        )

    def _fields(self, view: Any) -> Fields:
        outputs = [
            ops.stop_gradient(ops.cast(output, "float32"))
            for output in self.network(view, training=False)
        ]
        fields = Fields.of(outputs)
        return Fields(fields.heatmaps[-1:], fields.affinity[-1:], fields.centre, fields.offsets)

    def _in_own_cells(self, fields: Fields, hw: tuple[int, ...]) -> Fields:
        if hw == self._hw:
            return fields

        def moved(field: Any) -> Any:
            size = tuple(
                own * side // other
                for own, side, other in zip(self._hw, field.shape[1:3], hw, strict=True)
            )
            return ops.image.resize(field, size, "bilinear", data_format="channels_last")

        offsets = None
        if fields.offsets is not None:
            zoom = [self._hw[1] / hw[1], self._hw[0] / hw[0]] * (fields.offsets.shape[-1] // 2)
            offsets = moved(fields.offsets) * ops.array(zoom, "float32")
        return Fields(
            (moved(fields.heatmaps[0]),),
            (moved(fields.affinity[0]),),
            None if fields.centre is None else moved(fields.centre),
            offsets,
        )

    def _unmirrored(self, fields: Fields) -> Fields:
        assert self._mirror is not None

        def turned(field: Any, name: str) -> Any:
            order, signs = getattr(self._mirror, name)
            return ops.take(field[:, :, ::-1], order, axis=-1) * ops.array(signs, "float32")

        return Fields(
            (turned(fields.heatmaps[0], "heatmaps"),),
            (turned(fields.affinity[0], "affinity"),),
            None if fields.centre is None else fields.centre[:, :, ::-1],
            None if fields.offsets is None else turned(fields.offsets, "offsets"),
        )


def resized(pixels: Any, hw: tuple[int, ...]) -> Any:
    """Images (B, H, W, 3) uint8 in another size, rounded to whole numbers again.

    An image that becomes smaller by a whole factor is the mean of its pixels.
    """
    rows, columns = pixels.shape[1:3]
    if (rows, columns) == hw:
        return pixels
    exact = ops.cast(pixels, "float32")
    if rows % hw[0] == 0 and columns % hw[1] == 0:
        blocks = (-1, hw[0], rows // hw[0], hw[1], columns // hw[1], 3)
        made = ops.mean(ops.reshape(exact, blocks), axis=(2, 4))
    else:
        made = ops.image.resize(exact, hw, "bilinear", antialias=True, data_format="channels_last")
    return ops.cast(ops.clip(ops.round(made), 0, 255), "uint8")


def _mean(fields: Sequence[Any]) -> Any:
    return reduce(ops.add, fields) / len(fields)


def _surest(probabilities: Sequence[Any]) -> Any:
    """Half way from the mean to the maximum, as logits."""
    clipped = ops.clip(ops.stack(probabilities), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    logits = ops.log(clipped / (1 - clipped))
    return ops.sigmoid(0.5 * (ops.max(logits, axis=0) + ops.mean(logits, axis=0)))


def _longest(affinity: Sequence[Any]) -> Any:
    """Of each limb and cell the longest vector."""
    longest = affinity[0]
    for field in affinity[1:]:
        longer = _lengths(field) > _lengths(longest)
        longest = ops.where(ops.repeat(longer, 2, axis=-1), field, longest)
    return longest


def _lengths(affinity: Any) -> Any:
    return ops.square(affinity[..., 0::2]) + ops.square(affinity[..., 1::2])


def _weighted(offsets: Sequence[Any], centres: Sequence[Any]) -> Any:
    """The mean of offsets, by how sure each size is that there is a middle."""
    weights = [ops.square(ops.square(centre)) + _LEAST_WEIGHT for centre in centres]
    parts = [field * weight for field, weight in zip(offsets, weights, strict=True)]
    return reduce(ops.add, parts) / reduce(ops.add, weights)


def _rounded(side: float) -> int:
    return max(1, round(side / DEEPEST_STRIDE)) * DEEPEST_STRIDE
