"""An image given in any form becomes the bytes of an image file, which travel."""

from __future__ import annotations

import stat
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import BeyondLimit, ContractError
from pose_runtime.orientation import upright
from pose_runtime.png_chunks import PNG_START
from pose_runtime.spec import ImageLimits

from .errors import FileError, RequestRejected


class PilImage(Protocol):
    """What a `PIL.Image.Image` has; Pillow itself is not needed."""

    def convert(self, mode: str) -> Any: ...


Image = Path | str | bytes | NDArray[np.uint8] | PilImage

_BMP_HEADER_BYTES = 54
_EXIF_ORIENTATION = 0x0112
_WHITE_8, _WHITE_16 = 255, 65535


def image_bytes(image: Image, limits: ImageLimits) -> bytes:
    """Encoded bytes of a path, of encoded bytes, of a PIL image, or of RGB pixels.

    Pixels are encoded without loss: as BMP, which costs nothing, while that is within the server's
    limit of bytes, else as PNG.

    Raises:
        FileError: the path cannot be read.
        RequestRejected: the file is larger than the server accepts.
        ContractError: an array that is not RGB pixels, or a PIL image of numbers, not of grey.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return read_image_file(Path(image), limits.max_bytes)
    pixels = _pixels(image)
    bmp_bytes = _BMP_HEADER_BYTES + pixels.shape[0] * (3 * pixels.shape[1] + 3)
    return _bmp(pixels) if bmp_bytes <= limits.max_bytes else _png(pixels)


def read_image_file(path: Path, max_bytes: int = ImageLimits().max_bytes) -> bytes:
    """The content of a file that may be an image.

    Args:
        path: a regular file; a device or a pipe could go on for ever.
        max_bytes: a larger file is refused without being read.

    Raises:
        FileError: it cannot be read, or is no regular file.
        RequestRejected: it is larger.
    """
    expected = "an image file"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"a {_kind(status.st_mode)}; `-` reads stdin")
        if status.st_size > max_bytes:
            raise _too_large(max_bytes, status.st_size)
        with path.open("rb") as file:
            return read_bounded(file, max_bytes)
    except OSError as error:
        raise FileError(path, expected, error) from error


def read_bounded(file: BinaryIO, max_bytes: int) -> bytes:
    """All that is left of an open file.

    Raises:
        RequestRejected: there are more than `max_bytes`; the rest is not read.
    """
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise _too_large(max_bytes, len(data))
    return data


def _too_large(max_bytes: int, size: int) -> RequestRejected:
    """The error with which the server would refuse it."""
    limit = BeyondLimit("max_bytes", f"at most {max_bytes} bytes", f"{size} or more")
    return RequestRejected(str(limit))


def _kind(mode: int) -> str:
    names = {stat.S_ISDIR: "folder", stat.S_ISFIFO: "pipe", stat.S_ISSOCK: "socket"}
    return next((name for is_one, name in names.items() if is_one(mode)), "device")


def _pixels(image: Any) -> NDArray[np.uint8]:
    expected = "a path, bytes, a PIL image, or RGB pixels (height, width, 3) uint8"
    pixels = image
    if not isinstance(image, np.ndarray):
        if not hasattr(image, "convert"):
            raise ContractError("image", expected, type(image).__name__)
        pixels = upright(_rgb(image), _orientation(image))
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ContractError("image", expected, f"{pixels.dtype} {pixels.shape}")
    return pixels


def _rgb(image: Any) -> NDArray[np.uint8]:
    """RGB of a PIL image; Pillow's own conversion turns 16-bit grey into white."""
    mode = getattr(image, "mode", "")
    if mode not in ("I", "F") and not mode.startswith("I;16"):
        return np.asarray(image.convert("RGB"))
    grey = np.asarray(image)
    if mode == "F" or not grey.size or grey.min() < 0 or grey.max() > _WHITE_16:
        expected = f"a PIL image of 8 bits a channel, or of 16 with values in 0..{_WHITE_16}"
        raise ContractError("image", expected, f"mode {mode}")
    # Pillow also calls 8-bit grey "I" when a program asked for it.
    if grey.max() > _WHITE_8:
        grey = grey >> 8
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def _orientation(image: Any) -> int:
    """EXIF's, 1..8, which applies to a PIL image as it does to its file."""
    exif = image.getexif() if hasattr(image, "getexif") else {}
    orientation = exif.get(_EXIF_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


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
