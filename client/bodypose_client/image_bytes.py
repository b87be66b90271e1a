"""Owns what travels: an image given in any form becomes the bytes of an image file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import ContractError
from pose_runtime.png_chunks import PNG_START
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
    return _bmp(pixels) if bmp_bytes <= limits.max_bytes else _png(pixels)


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


def _bmp(pixels: NDArray[np.uint8]) -> bytes:
    """BITMAPFILEHEADER, BITMAPINFOHEADER, then BGR rows from the bottom up, of 4 n bytes each."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, -(-3 * width // 4) * 4), np.uint8)
    bgr = rows[::-1, : 3 * width]
    for channel in range(3):
        bgr[:, channel::3] = pixels[:, :, 2 - channel]
    size = _BMP_HEADER_BYTES + rows.nbytes
    file = struct.pack("<2sIHHI", b"BM", size, 0, 0, _BMP_HEADER_BYTES)
    return (
        file
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, rows.nbytes, *[0] * 4)
        + (rows.tobytes())
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """RGB of 8 bits, each row as its difference from the one above (filter 2, "Up")."""
    height, width, _ = pixels.shape
    rows = np.full((height, 1 + 3 * width), 2, np.uint8)
    flat = pixels.reshape(height, 3 * width)
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 1)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return PNG_START + b"".join(_png_chunk(kind, content) for kind, content in parts)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
