"""What an image's bytes tell before anything is decoded: format, size, orientation, cost.

Whatever `checked_image` lets through is of an accepted format and within the limits. The time to
decode is a prediction: `decode_process` holds what is not surely quick to it.
"""

from __future__ import annotations

import binascii
import re
import string
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg

from .errors import BeyondLimit, DamagedImage, UnknownFormat
from .png_chunks import (
    PNG_START,
    bits_per_pixel,
    chunks,
    depth_of,
    is_interlaced,
    pixels_only,
    size_of,
)
from .spec import IMAGE_FORMATS, ImageLimits

# Time to decode, in nanoseconds: by pixel, by encoded byte. Bounds of flat, smooth and noisy
# pictures in every quality, on one core of an Intel Xeon; most photos take a third of it.
_DECODE_NS = {"JPEG": (3, 8), "WebP": (8, 50), "BMP": (6, 0)}
# An arithmetic coder decides bit by bit, and long runs of zeros take time but no bytes.
_ARITHMETIC_NS = 30, 180
# Every scan of a JPEG walks over all of its pixels again, however few bytes it has.
_SCAN_NS_PER_PIXEL, _SCAN_NS = 1.5, 5_000
# A PNG's filters work on unpacked bytes; interlaced pixels are put in place one by one. Rows of 16
# bits are made narrower, too.
_PNG_NS, _PNG_NS_PER_BYTE, _PNG_NS_INTERLACED = 2, 10, 5
_PNG_NS_UNPACKED = {16: 10.0}
_PNG_NS_UNPACKED_NARROW = 2.7
# What is expected to take a smaller part of `max_decode_ms` is quick. Nothing that we could draw
# takes 4 times what is expected.
_QUICK_PART = 0.25
# Encoders write tens; walking a million takes a second.
_MAX_SEGMENTS = 20_000
# After a scan's data: anything but stuffing (00), fill bytes (FF) and restart markers (D0..D7).
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# Markers that stand alone: TEM, SOI, EOI. The reserved ones (02..BF) end libjpeg's decoding, unless
# it looks for a restart marker; then it goes on behind them (`jpeg_resync_to_restart`).
_HAVE_LENGTH = frozenset(range(0xC0, 0xFF)) - frozenset(range(0xD0, 0xDA))
# What libjpeg decodes of the sixteen: Huffman's, and arithmetic coding's.
_ARITHMETIC_FRAMES = frozenset((0xC9, 0xCA, 0xCB))
_START_OF_FRAME = frozenset((0xC0, 0xC1, 0xC2, 0xC3)) | _ARITHMETIC_FRAMES
_BASE64 = (string.ascii_letters + string.digits + "+/-_=").encode()
_SPACES = string.whitespace.encode()
_FROM_BASE64URL = bytes.maketrans(b"-_", b"+/")
_BASE64_LOOK = 128  # characters
_START_OF_SCAN, _END_OF_IMAGE, _EXIF = 0xDA, 0xD9, 0xE1
_BASELINE, _JFIF, _ADOBE = 0xC0, 0xE0, 0xEE
# Grey; 4:4:4, 4:2:2, 4:2:0: samples of Y for one of Cb and Cr, by rows and columns.
SAMPLINGS = ((0, 0), (1, 1), (1, 2), (2, 2))
_SHORT, _LONG = 3, 4  # TIFF's types


@dataclass(frozen=True, slots=True)
class Header:
    """What the bytes say about the picture in them.

    hw: height and width as stored.
    orientation: EXIF's, 1..8; 1 is upright, from 5 on rows and columns change places.
    """

    image_format: str
    hw: tuple[int, int]
    orientation: int = 1

    @property
    def upright_hw(self) -> tuple[int, int]:
        return self.hw[::-1] if self.orientation >= 5 else self.hw

    def __str__(self) -> str:
        return f"{self.image_format} of {self.hw[1]} x {self.hw[0]}"


def image_size(data: bytes) -> tuple[int, int]:
    """Height and width of what `images.decode_image` makes of `data`, read from its header alone.

    Raises:
        ImageError: no image format that we accept, or its header is damaged.
    """
    return read_header(data).upright_hw


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """Bytes to decode (without base64, a PNG without comments), which all limits allow.

    expected_ms: time to decode it whole, on one core.
    is_quick: whether it surely takes less than `max_decode_ms`.
    """

    data: bytes
    header: Header
    expected_ms: float
    is_quick: bool


def checked_image(data: bytes, limits: ImageLimits) -> EncodedImage:
    """The image in a request's bytes, when all limits allow it.

    Raises:
        ImageError: empty, of another format, cut short, or beyond `limits`.
    """
    if len(data) > limits.max_bytes:
        raise BeyondLimit("max_bytes", f"at most {limits.max_bytes} bytes", f"{len(data)}")
    data, image_format = _without_base64(data, limits.formats)
    hw = _size(data, image_format)
    height, width = hw
    if height < 1 or width < 1:
        raise DamagedImage("at least 1 x 1 pixels", str(Header(image_format, hw)))
    if height * width > limits.max_pixels:
        raise BeyondLimit(
            "max_pixels", f"at most {limits.max_pixels} pixels", str(Header(image_format, hw))
        )
    header = Header(image_format, hw, _orientation(data, image_format))
    expected_ms = _checked_decode_ms(data, header, limits.max_decode_ms)
    if image_format == "PNG":
        data = pixels_only(data, limits.max_decode_ms)
    return EncodedImage(data, header, expected_ms, expected_ms < limits.max_decode_ms * _QUICK_PART)


def read_header(data: bytes) -> Header:
    """The header of encoded bytes, or of their base64 text, whatever its size.

    Raises:
        ImageError: no image format that we know, or its header is damaged.
    """
    data, image_format = _without_base64(data, IMAGE_FORMATS)
    return Header(image_format, _size(data, image_format), _orientation(data, image_format))


def exif_orientation(data: bytes) -> int:
    """The EXIF orientation 1..8 of a JPEG; 1 (upright) when there is none or it is damaged.

    Source: EXIF 2.3 (JEITA CP-3451C) section 4.5, tag 0x0112 of the first image directory.
    """
    for marker, start, end in _segments(data):
        if marker == _EXIF and data.startswith(b"Exif\0\0", start):
            return _orientation_in_tiff(data[start + 6 : end])
        if marker == _START_OF_SCAN:
            break
    return 1


def has_end(jpeg: bytes) -> bool:
    """Whether a JPEG's segments go on to its end marker."""
    return any(marker == _END_OF_IMAGE for marker, _, _ in _segments(jpeg))


def count_scans(jpeg: bytes) -> int:
    """How often libjpeg may walk over a JPEG's pixels."""
    return sum(marker == _START_OF_SCAN for marker, _, _ in _segments(jpeg))


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """What hardware needs to know of a plain JPEG.

    hw: height and width.
    sampling: samples of Y for one of Cb and Cr, by rows and columns; (0, 0) for a grey picture.
    """

    hw: tuple[int, int]
    sampling: tuple[int, int]


def jpeg_frame(jpeg: bytes) -> JpegFrame | None:
    """The frame of a plain JPEG, which decoders in hardware take; None for any other.

    Plain: baseline, 8 bits, one scan of all components, grey or YCbCr in 4:4:4, 4:2:2 or 4:2:0, and
    nothing behind its end.

    Source: ITU-T T.81, B.2; which colours are meant: libjpeg-turbo, jdapimin.c.
    """
    if not jpeg.endswith(b"\xff\xd9"):
        return None
    frame, is_jfif, transform = None, False, 1
    for marker, start, end in _segments(jpeg):
        if marker == _JFIF and jpeg.startswith(b"JFIF\0", start):
            is_jfif = True
        elif marker == _ADOBE and jpeg.startswith(b"Adobe", start) and end - start >= 12:
            transform = int.from_bytes(jpeg[start + 11 : start + 12], "big")
        elif marker == _START_OF_SCAN:
            break
        elif marker in _START_OF_FRAME:
            if frame is not None or marker != _BASELINE:
                return None
            frame = _plain_frame(jpeg[start:end])
            if frame is None:
                return None
    else:
        return None
    if frame is None:
        return None
    components = 1 if frame.sampling == SAMPLINGS[0] else 3
    scan = jpeg[start:end]
    if len(scan) != 4 + 2 * components or scan[0] != components:
        return None
    if scan[-3:] != b"\0\x3f\0" or (components == 3 and not is_jfif and transform != 1):
        return None
    if _most_scans(jpeg) > 1 and count_scans(jpeg) > 1:
        return None
    return frame


def _plain_frame(content: bytes) -> JpegFrame | None:
    if len(content) < 9 or content[0] != 8 or len(content) != 6 + 3 * content[5]:
        return None
    height, width, count = struct.unpack_from(">HHB", content, 1)
    factors = [content[7 + 3 * i] for i in range(count)]
    if count == 1 and factors == [0x11]:
        return JpegFrame((height, width), SAMPLINGS[0])
    identities = bytes(content[6 + 3 * i] for i in range(count))
    if count != 3 or factors[1:] != [0x11, 0x11] or identities == b"RGB":
        return None
    sampling = factors[0] & 15, factors[0] >> 4
    return JpegFrame((height, width), sampling) if sampling in SAMPLINGS[1:] else None


def _without_base64(data: bytes, formats: tuple[str, ...]) -> tuple[bytes, str]:
    *others, last = formats
    accepted = f"{', '.join(others)} or {last}" if others else last
    accepted += " bytes, or their base64 text"
    if not data:
        raise UnknownFormat(accepted, "no bytes")
    unpacked = data if _format_of(data) else _from_base64(data)
    image_format = _format_of(unpacked)
    if image_format is None:
        raise UnknownFormat(accepted, f"{len(data)} bytes starting with {data[:8]!r}")
    if image_format not in formats:
        raise UnknownFormat(accepted, image_format)
    return unpacked, image_format


def _from_base64(data: bytes) -> bytes:
    """The bytes behind base64 text; `data` if it is no such text of an image.

    With or without a `data:` prefix, spaces and padding, in either alphabet (RFC 4648, 4 and 5).
    Only a text whose start is an image's is unpacked: three copies of it at most are held at once.
    """
    text = memoryview(data)
    if data.startswith(b"data:"):
        text = text[data[:_BASE64_LOOK].find(b",") + 1 :]
    start = bytes(text[:_BASE64_LOOK]).translate(_FROM_BASE64URL, _SPACES)
    if start.translate(None, _BASE64):
        return data
    try:
        if _format_of(binascii.a2b_base64(start[: len(start) // 4 * 4])) is None:
            return data
        packed = bytes(text).translate(_FROM_BASE64URL, _SPACES)
        padding = b"=" * (-len(packed) % 4)
        return binascii.a2b_base64(packed + padding if padding else packed, strict_mode=True)
    except binascii.Error:
        return data


def _format_of(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(PNG_START):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "animated WebP" if _is_animated(data) else "WebP"
    if data.startswith(b"BM"):
        return "BMP"
    return None


def _orientation(data: bytes, image_format: str) -> int:
    """EXIF's; 1 for formats that have none."""
    match image_format:
        case "JPEG":
            return exif_orientation(data)
        case "PNG":
            return _png_orientation(data)
        case "WebP":
            return _webp_orientation(data)
        case _:
            return 1


def _is_animated(webp: bytes) -> bool:
    """Animations are no format of ours.

    OpenCV 4.11 does not look whether their first frame decodes, and then reads pixels from
    where a variable that was never set happens to point (found by the fuzzer).
    """
    return webp[12:16] == b"VP8X" and bool(webp[20:21]) and bool(webp[20] & 0x02)


def _size(data: bytes, image_format: str) -> tuple[int, int]:
    """Height and width as the bytes claim them.

    Source: PNG specification 11.2.2; WebP container specification (VP8X, VP8L, VP8 chunks);
    BITMAPINFOHEADER and BITMAPCOREHEADER; simplejpeg for JPEG.
    """
    try:
        if image_format == "JPEG":
            height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
            return height, width
        if image_format == "PNG":
            return size_of(data)
        if image_format == "BMP":
            return _size_in_bmp(data)
        return _size_in_webp(data)
    except (ValueError, KeyError, struct.error) as error:  # KeyError: simplejpeg, cut header
        raise DamagedImage(f"a whole {image_format}", f"{len(data)} bytes of damaged header") from (
            error
        )


def _size_in_bmp(data: bytes) -> tuple[int, int]:
    (kind,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if kind == 12 else "<ii", data, 18)
    return abs(height), width


def _size_in_webp(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8X":
        low, width, less, height = struct.unpack_from("<HBHB", data, 24)
        width, height = (width << 16 | low) + 1, (height << 16 | less) + 1
    elif chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return height, width


def _checked_decode_ms(data: bytes, header: Header, max_decode_ms: int) -> float:
    """Expected time to decode. Raises: BeyondLimit: it is more than `max_decode_ms`."""
    scans = 1
    match header.image_format:
        case "JPEG":
            scans = _most_scans(data)
            expected_ms = _jpeg_ms(data, header.hw, scans)
            if expected_ms > max_decode_ms * _QUICK_PART:  # worth counting exactly
                scans = count_scans(data)
                expected_ms = _jpeg_ms(data, header.hw, scans)
        case "PNG":
            expected_ms = _png_ms(data, header.hw)
        case other:
            by_pixel, by_byte = _DECODE_NS[other]
            expected_ms = (header.hw[0] * header.hw[1] * by_pixel + len(data) * by_byte) / 1e6
    if expected_ms > max_decode_ms:
        in_scans = f" in {scans} scans" if scans > 1 else ""
        raise BeyondLimit(
            "max_decode_ms",
            f"at most {max_decode_ms} ms of decoding",
            f"{header}{in_scans}, {len(data)} bytes, which may take {expected_ms:.0f} ms",
        )
    return expected_ms


def _jpeg_ms(data: bytes, hw: tuple[int, int], scans: int) -> float:
    pixels = hw[0] * hw[1]
    by_pixel, by_byte = _ARITHMETIC_NS if _is_arithmetic(data) else _DECODE_NS["JPEG"]
    by_scan = pixels * _SCAN_NS_PER_PIXEL + _SCAN_NS
    return (pixels * by_pixel + len(data) * by_byte + scans * by_scan) / 1e6


def _is_arithmetic(jpeg: bytes) -> bool:
    for marker, _, _ in _segments(jpeg):
        if marker in _START_OF_FRAME:
            return marker in _ARITHMETIC_FRAMES
    return False


def _png_ms(data: bytes, hw: tuple[int, int]) -> float:
    pixels = hw[0] * hw[1]
    by_pixel = _PNG_NS + (_PNG_NS_INTERLACED if is_interlaced(data) else 0)
    by_unpacked = _PNG_NS_UNPACKED.get(depth_of(data), _PNG_NS_UNPACKED_NARROW)
    unpacked = pixels * bits_per_pixel(data) / 8
    return (pixels * by_pixel + unpacked * by_unpacked + len(data) * _PNG_NS_PER_BYTE) / 1e6


def _most_scans(data: bytes) -> int:
    """A JPEG's scans, or more: bytes that look like the start of one count, wherever they are."""
    pairs = (
        np.frombuffer(data, "<u2", (len(data) - start) // 2, start) == _START_OF_SCAN << 8 | 0xFF
        for start in (0, 1)
    )
    return sum(map(np.count_nonzero, pairs))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker of a JPEG's segment, start and end of its content, as libjpeg meets them.

    Scans' data are skipped, and so are restart markers and whatever lies between segments.

    Source: libjpeg-turbo, jdmarker.c, `next_marker` and `read_markers`.

    Raises:
        DamagedImage: more segments than any encoder writes.
    """
    position = 2
    for _ in range(_MAX_SEGMENTS):
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            return
        position = found.end()
        marker = data[position - 1]
        if marker in _HAVE_LENGTH:
            start = position + 2
            position = max(start, position + int.from_bytes(data[position:start], "big"))
            yield marker, start, position
        else:
            yield marker, position, position
            if marker == _END_OF_IMAGE:
                return
    raise DamagedImage("a whole JPEG", f"more than {_MAX_SEGMENTS} segments")


def _png_orientation(data: bytes) -> int:
    """The orientation in a PNG's eXIf chunk, which may also stand behind the pixels; else 1."""
    for kind, start, end in chunks(data):
        if kind == b"eXIf":
            return _orientation_in_tiff(data[start + 8 : end])
    return 1


def _webp_orientation(data: bytes) -> int:
    """The orientation in a WebP's EXIF chunk; 1 when there is none or it is damaged.

    Source: WebP container specification, "RIFF File Format" and "Metadata Chunks".
    """
    position = 12
    for _ in range(_MAX_SEGMENTS):
        start = position + 8
        size = data[position + 4 : start]
        if len(size) < 4:
            break
        end = start + int.from_bytes(size, "little")
        if data[position : position + 4] == b"EXIF":
            return _orientation_in_tiff(data[start:end].removeprefix(b"Exif\0\0"))
        position = end + end % 2
    return 1


def _orientation_in_tiff(tiff: bytes) -> int:
    """As SHORT, which the standard asks for, or as LONG, which some programs write."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(count):
            place = directory + 2 + 12 * entry
            tag, kind = struct.unpack_from(f"{order}HH", tiff, place)
            if tag == 0x0112 and kind in (_SHORT, _LONG):
                number = "H" if kind == _SHORT else "I"
                (value,) = struct.unpack_from(f"{order}{number}", tiff, place + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
