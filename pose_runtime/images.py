"""The one path from encoded bytes to network pixels: training, calibration, client, server.

With `image_headers` the only module of `pose_runtime` that imports simplejpeg or OpenCV.
"""

from __future__ import annotations

import re
import threading

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from .errors import DamagedImage
from .image_headers import EncodedImage, Header, checked_image, has_end
from .letterbox import PADDING, Letterbox
from .orientation import upright
from .spec import ImageLimits

Pixels = NDArray[np.uint8]

# Smallest scale at which bilinear resampling still sees every pixel.
_MIN_BILINEAR_SCALE = 0.5
# Decoding a JPEG at 5/8 of its size takes longer than whole (1.11 against 0.95 ms at 640 x 480).
_MIN_JPEG_FACTOR = 2
_BUFFER_BYTES = 8 * 2**20  # a whole image of 1920 x 1080
_own = threading.local()
# What libjpeg calls a warning (jerror.h, JWRN_*): it goes on. Anything else ends decoding.
_SMALL_DAMAGE = re.compile("Corrupt JPEG data|Unknown Adobe|Warning|Inconsistent progression")
# BGR; the orientation is applied here, by the same code for all formats.
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def decode_image(data: bytes, limits: ImageLimits) -> Pixels:
    """Encoded bytes (or their base64 text) to RGB (height, width, 3), EXIF orientation applied.

    Raises:
        ImageError: empty, of another format, damaged, cut short, or beyond `limits`; sizes are
            read from the header before anything is decoded.
    """
    image = checked_image(data, limits)
    if image.header.image_format == "JPEG":
        return _decode_jpeg(image.data, image.header)
    return _decode_other(image.data, image.header)


def network_pixels(
    data: bytes, network_hw: tuple[int, int], limits: ImageLimits
) -> tuple[Pixels, Letterbox]:
    """Encoded bytes to network input (H, W, 3), and the map between the frames.

    What `letterbox_pixels` makes of `decode_image`, but a JPEG larger than the network's input is
    decoded at the smallest of its own scales (eighths of the size) that is large enough.

    Raises:
        ImageError: as `decode_image`.
    """
    return checked_pixels(checked_image(data, limits), network_hw)


def checked_pixels(image: EncodedImage, network_hw: tuple[int, int]) -> tuple[Pixels, Letterbox]:
    """`network_pixels` of an image whose limits were checked.

    Raises:
        DamagedImage: it does not decode.
    """
    header = image.header
    letterbox = Letterbox.fit(header.upright_hw, network_hw)
    if header.image_format == "JPEG":
        pixels = _decode_jpeg(image.data, header, letterbox.placed_hw, _buffer_for(header.hw))
    else:
        pixels = _decode_other(image.data, header)
    return _placed(pixels, letterbox, network_hw), letterbox


def letterbox_pixels(image: Pixels, network_hw: tuple[int, int]) -> tuple[Pixels, Letterbox]:
    """RGB (height, width, 3) resized and padded to (H, W, 3), and the map between the frames."""
    letterbox = Letterbox.fit((image.shape[0], image.shape[1]), network_hw)
    return _placed(image, letterbox, network_hw), letterbox


def _placed(image: Pixels, letterbox: Letterbox, network_hw: tuple[int, int]) -> Pixels:
    """An image at any scale, resized to its place in the network's input; grey around it."""
    placed_h, placed_w = letterbox.placed_hw
    shrinks = placed_h / image.shape[0]
    kernel = cv2.INTER_LINEAR if shrinks >= _MIN_BILINEAR_SCALE else cv2.INTER_AREA
    pixels = np.empty((*network_hw, 3), np.uint8)
    if (placed_h, placed_w) != network_hw:
        pixels.fill(PADDING)
    x, y = letterbox.offset_xy
    place = pixels[y : y + placed_h, x : x + placed_w]
    cv2.resize(image, (placed_w, placed_h), dst=place, interpolation=kernel)
    return pixels


def _buffer_for(image_hw: tuple[int, int]) -> Pixels | None:
    """This thread's own memory for a decoded image, overwritten by the next one; None if too small.

    Fresh memory may be handed out by the operating system page by page, which then takes up to a
    quarter of the time of decoding 640 x 480 pixels into it.
    """
    if 3 * image_hw[0] * image_hw[1] > _BUFFER_BYTES:
        return None
    if not hasattr(_own, "buffer"):
        _own.buffer = np.empty(_BUFFER_BYTES, np.uint8)
    return np.asarray(_own.buffer)


def _decode_jpeg(
    data: bytes,
    header: Header,
    enough_hw: tuple[int, int] = (0, 0),
    buffer: Pixels | None = None,
) -> Pixels:
    """Upright RGB, at the smallest of the JPEG's scales that has at least `enough_hw` pixels.

    (0, 0) asks for the whole size, which is also the answer when no scale below half would do.
    With a `buffer` of enough bytes, the pixels may lie in it.
    """
    size = _size_asked(header, enough_hw)
    if buffer is None:
        buffer = np.empty(3 * header.hw[0] * header.hw[1], np.uint8)
    try:
        image = simplejpeg.decode_jpeg(data, "RGB", **size, buffer=buffer)
    except ValueError as error:
        if _is_cmyk(data):  # nothing was decoded
            return _decode_other(data, header)
        image = _in_spite_of(error, data, size, buffer)
    return upright(image, header.orientation)


def _size_asked(header: Header, enough_hw: tuple[int, int]) -> dict[str, int]:
    height, width = enough_hw[::-1] if header.orientation >= 5 else enough_hw
    factor = 1 if enough_hw == (0, 0) else _MIN_JPEG_FACTOR
    return {"min_height": height, "min_width": width, "min_factor": factor}


def decoded_hw(jpeg: bytes, header: Header, enough_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width, as stored, at which a JPEG is decoded where `enough_hw` is enough."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(
        jpeg, **_size_asked(header, enough_hw), strict=False
    )
    return height, width


def _is_cmyk(jpeg: bytes) -> bool:
    return bool(simplejpeg.decode_jpeg_header(jpeg, strict=False)[2] == "CMYK")


def _in_spite_of(
    error: ValueError, data: bytes, size: dict[str, int], buffer: Pixels
) -> NDArray[np.uint8]:
    """What simplejpeg decoded in spite of small damage that other decoders tolerate, too.

    It complains when all is done, except about what stands before the first scan.
    """
    ends_early = DamagedImage("a whole JPEG", f"{len(data)} bytes that end too early")
    does_not_decode = DamagedImage("a whole JPEG", f"{len(data)} bytes that do not decode")
    if "premature end" in str(error).lower():
        raise ends_early from error
    if not _SMALL_DAMAGE.match(str(error)):
        raise does_not_decode from error
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, **size)
        return buffer[: 3 * height * width].reshape(height, width, 3)
    except ValueError:
        if not has_end(data):
            raise ends_early from error
    try:
        return simplejpeg.decode_jpeg(data, "RGB", **size, buffer=buffer, strict=False)
    except ValueError as last:
        raise does_not_decode from last


def _decode_other(data: bytes, header: Header) -> Pixels:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _AS_STORED)
    except cv2.error:
        image = None
    if image is None:
        raise DamagedImage(
            f"a whole {header.image_format}", f"{len(data)} bytes that do not decode"
        )
    if image.shape[:2] != header.hw:
        raise DamagedImage(f"{header}, as its header says", f"{image.shape[1]} x {image.shape[0]}")
    image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    return upright(image, header.orientation)
