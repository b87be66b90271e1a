"""Owns what travels: an image given in any form becomes the bytes of an image file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import ContractError
from pose_runtime.spec import ImageLimits

from .errors import FileError


class PilImage(Protocol):
    """What a `PIL.Image.Image` has; Pillow itself is not needed."""

    def convert(self, mode: str) -> Any: ...


Image = Path | str | bytes | NDArray[np.uint8] | PilImage

_BMP_HEADER_BYTES = 54


def image_bytes(image: Image, limits: ImageLimits) -> bytes:
    """Encoded bytes of a path, of encoded bytes, of a PIL image, or of RGB pixels.

    Pixels are encoded without loss: as BMP, which costs nothing, while that is within the server's
    limit of bytes, else as PNG.

    Raises:
        FileError: the path cannot be read.
        ContractError: an array that is not RGB pixels.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return read_image_file(Path(image))
    pixels = _pixels(image)
    bmp_bytes = _BMP_HEADER_BYTES + pixels.shape[0] * (3 * pixels.shape[1] + 3)
    return _encode(pixels, ".bmp" if bmp_bytes <= limits.max_bytes else ".png")


def read_image_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(path, "an image file", error) from error


def _pixels(image: Any) -> NDArray[np.uint8]:
    expected = "a path, bytes, a PIL image, or RGB pixels (height, width, 3) uint8"
    pixels = image
    if not isinstance(image, np.ndarray):
        if not hasattr(image, "convert"):
            raise ContractError("image", expected, type(image).__name__)
        pixels = np.asarray(image.convert("RGB"))
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ContractError("image", expected, f"{pixels.dtype} {pixels.shape}")
    return pixels


def _encode(pixels: NDArray[np.uint8], suffix: str) -> bytes:
    import cv2  # paths and bytes need no OpenCV

    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if suffix == ".png" else []
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    return encoded.tobytes()
