"""What a person may choose of the files that are installed with the package."""

from __future__ import annotations

from enum import StrEnum


class ShippedModel(StrEnum):
    """A network that the package brings, as float and as INT8 graph."""

    BODYPOSE_S = "bodypose-s"  # the more accurate one
    BODYPOSE_XS = "bodypose-xs"  # the fast one: the same weights, one pass over the image
