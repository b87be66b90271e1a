"""Layers that resize: images to a larger copy, fields to the cells of another field."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from .backbones import DEEPEST_STRIDE


@keras.saving.register_keras_serializable(package="bodypose")
class LargerCopy(layers.Layer):
    """Images (B, H, W, C) to `scale` times their size, rounded to multiples of 32; bilinear."""

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], *(side and self._longer(side) for side in shape[1:3]), shape[3])

    def call(self, images: Any) -> Any:
        size = tuple(self._longer(side) for side in images.shape[1:3])
        return ops.image.resize(images, size, "bilinear", data_format="channels_last")

    def _longer(self, side: int) -> int:
        return round(side * self.scale / DEEPEST_STRIDE) * DEEPEST_STRIDE

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="bodypose")
class InCellsOf(layers.Layer):
    """A field (B, h, w, C) and another of the same image to the first in the other's cells."""

    def compute_output_shape(self, shapes: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        field, other = shapes
        return (field[0], *other[1:3], field[3])

    def call(self, fields: list[Any]) -> Any:
        field, other = fields
        size = tuple(other.shape[1:3])
        return ops.image.resize(field, size, "bilinear", data_format="channels_last")
