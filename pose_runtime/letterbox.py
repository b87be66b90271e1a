"""Owns the one map between image pixels and network pixels.

Pixel convention of the whole project: the centre of the upper left pixel is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError

Floats = NDArray[np.float32]

PADDING = 128  # grey around an image: 0 after the network's `pixels / 256 - 0.5`


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Uniform scale, then shift: `network_px = image_px * scale + offset`.

    Points are (..., 2) as x, y. Crosses the ensemble as `geometry`, (5,) float32.
    """

    image_hw: tuple[int, int]
    scale: float
    offset_xy: tuple[int, int]

    @classmethod
    def fit(cls, image_hw: tuple[int, int], network_hw: tuple[int, int]) -> Letterbox:
        """The largest centred placement of an image of `image_hw` inside `network_hw`.

        Offsets are whole pixels, so that the resized image is pasted and not sampled again.
        """
        (height, width), (net_height, net_width) = image_hw, network_hw
        scale = min(net_height / height, net_width / width)
        placed_h, placed_w = _placed_hw(image_hw, scale)
        return cls(image_hw, scale, ((net_width - placed_w) // 2, (net_height - placed_h) // 2))

    @property
    def placed_hw(self) -> tuple[int, int]:
        """Height and width of the resized image inside the network's input, at least 1 pixel."""
        return _placed_hw(self.image_hw, self.scale)

    def to_network(self, image_xy: Floats) -> Floats:
        return (image_xy * np.float32(self.scale) + np.array(self.offset_xy, np.float32)).astype(
            np.float32
        )

    def to_image(self, network_xy: Floats) -> Floats:
        return (
            (network_xy - np.array(self.offset_xy, np.float32)) / np.float32(self.scale)
        ).astype(np.float32)

    def to_geometry(self) -> Floats:
        """(5,): image height, image width, scale, x offset, y offset."""
        return np.array([*self.image_hw, self.scale, *self.offset_xy], np.float32)

    @classmethod
    def from_geometry(cls, geometry: Floats) -> Letterbox:
        if geometry.shape != (5,) or not np.isfinite(geometry).all() or geometry[2] <= 0:
            raise ContractError(
                "geometry", "(5,) finite with scale > 0", f"{geometry.shape} {geometry.tolist()}"
            )
        height, width, scale, x, y = geometry.tolist()
        return cls((int(height), int(width)), scale, (int(x), int(y)))


def _placed_hw(image_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(image_hw[0] * scale)), max(1, round(image_hw[1] * scale))
