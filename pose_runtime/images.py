"""Owns the one path from encoded bytes to network pixels: training, calibration, client, server.

The only module of `pose_runtime` that imports simplejpeg and OpenCV.
"""

from __future__ import annotations

import base64
import binascii
import struct

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from .errors import ImageError
from .letterbox import Letterbox
from .spec import ImageLimits

Pixels = NDArray[np.uint8]

PADDING = 128  # grey: 0 after the network's `pixels / 256 - 0.5`
ACCEPTED = "JPEG, PNG, WebP or BMP bytes, or their base64 text"
# Smallest scale at which bilinear resampling still sees every pixel.
_MIN_BILINEAR_SCALE = 0.5
# Decoding a JPEG at 5/8 of its size takes longer than whole (1.11 against 0.95 ms at 640 x 480).
_MIN_JPEG_FACTOR = 2


def decode_image(data: bytes, limits: ImageLimits) -> Pixels:
    """Encoded bytes (or their base64 text) to RGB (height, width, 3), EXIF orientation applied.

    Raises:
        ImageError: empty, of another format, damaged, cut short, or beyond `limits`; sizes are
            read from the header before anything is decoded.
    """
    data, image_format = _checked(data, limits)
    return _decode_jpeg(data) if image_format == "JPEG" else _decode_other(data, image_format)


def network_pixels(
    data: bytes, network_hw: tuple[int, int], limits: ImageLimits
) -> tuple[Pixels, Letterbox]:
    """Encoded bytes to network input (H, W, 3), and the map between the frames.

    What `letterbox_pixels` makes of `decode_image`, but a JPEG larger than the network's input is
    decoded at the smallest of its own scales (eighths of the size) that is large enough.

    Raises:
        ImageError: as `decode_image`.
    """
    data, image_format = _checked(data, limits)
    if image_format != "JPEG":
        return letterbox_pixels(_decode_other(data, image_format), network_hw)
    letterbox = Letterbox.fit(_upright_size(data, image_format), network_hw)
    return _placed(_decode_jpeg(data, letterbox.placed_hw), letterbox, network_hw), letterbox


def _checked(data: bytes, limits: ImageLimits) -> tuple[bytes, str]:
    """The encoded bytes, without base64, and their format, when both are within the limits."""
    if not data:
        raise ImageError(ACCEPTED, "no bytes")
    if len(data) > limits.max_bytes:
        raise ImageError(f"at most {limits.max_bytes} bytes", f"{len(data)}")
    data, image_format = _without_base64(data)
    height, width = _size_in_header(data, image_format)
    if height < 1 or width < 1:
        raise ImageError("at least 1 x 1 pixels", f"{image_format} of {width} x {height}")
    if height * width > limits.max_pixels:
        raise ImageError(
            f"at most {limits.max_pixels} pixels", f"{image_format} of {width} x {height}"
        )
    if image_format == "PNG":
        _check_png_chunks(data)
    return data, image_format


def _without_base64(data: bytes) -> tuple[bytes, str]:
    if _format_of(data) is None:
        data = _from_base64(data)
    image_format = _format_of(data)
    if image_format is None:
        raise ImageError(ACCEPTED, f"{len(data)} bytes starting with {data[:8]!r}")
    return data, image_format


def image_size(data: bytes) -> tuple[int, int]:
    """Height and width of what `decode_image` makes of `data`, read from its header alone.

    Raises:
        ImageError: no image format that we accept, or its header is damaged.
    """
    return _upright_size(*_without_base64(data))


def _upright_size(data: bytes, image_format: str) -> tuple[int, int]:
    height, width = _size_in_header(data, image_format)
    orientation = {"JPEG": exif_orientation, "PNG": _png_orientation}.get(image_format)
    turned = orientation is not None and orientation(data) >= 5
    return (width, height) if turned else (height, width)


def letterbox_pixels(image: Pixels, network_hw: tuple[int, int]) -> tuple[Pixels, Letterbox]:
    """RGB (height, width, 3) resized and padded to (H, W, 3), and the map between the frames."""
    letterbox = Letterbox.fit((image.shape[0], image.shape[1]), network_hw)
    return _placed(image, letterbox, network_hw), letterbox


def _placed(image: Pixels, letterbox: Letterbox, network_hw: tuple[int, int]) -> Pixels:
    """An image at any scale, resized to its place in the network's input; grey around it."""
    placed_h, placed_w = letterbox.placed_hw
    shrinks = placed_h / image.shape[0]
    kernel = cv2.INTER_LINEAR if shrinks >= _MIN_BILINEAR_SCALE else cv2.INTER_AREA
    pixels = np.full((*network_hw, 3), PADDING, np.uint8)
    x, y = letterbox.offset_xy
    pixels[y : y + placed_h, x : x + placed_w] = cv2.resize(
        image, (placed_w, placed_h), interpolation=kernel
    )
    return pixels


def exif_orientation(data: bytes) -> int:
    """The EXIF orientation 1..8 of a JPEG; 1 (upright) when there is none or it is damaged.

    Source: EXIF 2.3 (JEITA CP-3451C) section 4.5, tag 0x0112 of the first image directory.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        if data[position + 1] == 0xE1 and segment.startswith(b"Exif\0\0"):
            return _orientation_in_tiff(segment[6:])
        position += 2 + length
    return 1


def _orientation_in_tiff(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(
                f"{order}HHIH", tiff, directory + 2 + 12 * entry
            )
            if (tag, kind) == (0x0112, 3):
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _png_orientation(data: bytes) -> int:
    """The orientation in a PNG's eXIf chunk, which OpenCV applies; 1 when there is none."""
    position, kind = 8, b""
    while position + 8 <= len(data) and kind != b"IDAT":
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind == b"eXIf":
            return _orientation_in_tiff(data[position + 8 : position + 8 + length])
        position += 12 + length
    return 1


def _upright(image: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation: the stored rows and columns become what a person would see."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _decode_jpeg(data: bytes, enough_hw: tuple[int, int] = (0, 0)) -> Pixels:
    """Upright RGB, at the smallest of the JPEG's scales that has at least `enough_hw` pixels.

    (0, 0) asks for the whole size, which is also the answer when no scale below half would do.
    """
    factor = 1 if enough_hw == (0, 0) else _MIN_JPEG_FACTOR
    orientation = exif_orientation(data)
    height, width = enough_hw[::-1] if orientation >= 5 else enough_hw
    try:
        image = simplejpeg.decode_jpeg(
            data, "RGB", min_height=height, min_width=width, min_factor=factor
        )
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise ImageError("a whole JPEG", f"{len(data)} bytes that end too early") from error
        # CMYK, and small damage that other decoders tolerate; OpenCV applies EXIF by itself.
        return _decode_other(data, "JPEG")
    return _upright(image, orientation)


def _decode_other(data: bytes, image_format: str) -> Pixels:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(f"a whole {image_format}", f"{len(data)} bytes that do not decode")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _from_base64(data: bytes) -> bytes:
    """The bytes behind base64 text, with or without a `data:` prefix; `data` if it is no such."""
    text = data.split(b",", 1)[1] if data.startswith(b"data:") and b"," in data[:100] else data
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return data


def _format_of(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"BM"):
        return "BMP"
    return None


def _size_in_header(data: bytes, image_format: str) -> tuple[int, int]:
    """Height and width as the header claims them.

    Source: PNG specification 11.2.2; WebP container specification (VP8X, VP8L, VP8 chunks);
    BITMAPINFOHEADER; simplejpeg for JPEG.
    """
    try:
        if image_format == "JPEG":
            height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
            return height, width
        if image_format == "PNG":
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        if image_format == "BMP":
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(height), width
        return _size_in_webp(data)
    except (ValueError, KeyError, struct.error) as error:  # KeyError: simplejpeg, cut header
        raise ImageError(f"a whole {image_format}", f"{len(data)} bytes of damaged header") from (
            error
        )


def _check_png_chunks(data: bytes) -> None:
    """That every chunk up to the last is there.

    OpenCV reserves (and clears) the memory that a chunk claims before it looks for the chunk: 40 KB
    with one damaged length cost it 4 GB and 9 s.
    """
    position, kind = 8, b""
    while kind != b"IEND":
        kind = data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        if position > len(data):
            raise ImageError("a whole PNG", f"{len(data)} bytes that end too early")


def _size_in_webp(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return height, width
