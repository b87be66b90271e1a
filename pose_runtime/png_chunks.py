"""The chunks of a PNG: that all are there, and that no few bytes unpack to a flood.

Source: PNG specification (third edition), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from .errors import DamagedImage

PNG_START = b"\x89PNG\r\n\x1a\n"
# Encoders write tens or, in small pieces, hundreds; walking a million takes a second.
_MAX_CHUNKS = 20_000
# What the pixels depend on. Text or profiles of 8 KB may unpack to 8 MB each, so they go.
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
# A deflated byte may stand for 1032, whatever the picture's size, and libpng unpacks them all.
_UNPACK_NS = 1032 * 0.55
_PACKED_BYTES, _UNPACK_BYTES = 65_536, 1_048_576  # at once
_IHDR = struct.Struct(">I4sIIBBBBB")  # length, kind, width, height, ..., interlacing
_IHDR_BYTES = 13  # behind length and kind
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind of a PNG's chunk, where it starts, and where it ends; IEND is the last.

    OpenCV reserves (and clears) the memory that a chunk claims before it looks for the chunk: 40 KB
    with one damaged length cost it 4 GB and 9 s.

    Raises:
        DamagedImage: a chunk is not all there, or more chunks than any encoder writes.
    """
    position = len(PNG_START)
    for _ in range(_MAX_CHUNKS):
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            raise DamagedImage("a whole PNG", f"{len(data)} bytes that end too early")
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end
    raise DamagedImage("a whole PNG", f"more than {_MAX_CHUNKS} chunks")


def pixels_only(data: bytes, max_decode_ms: int) -> bytes:
    """A PNG without text, profiles and frames of an animation after the first."""
    kept = [chunk for chunk in chunks(data) if chunk[0] in _PIXEL_CHUNKS]
    packed = [data[start + 8 : end - 4] for kind, start, end in kept if kind == b"IDAT"]
    if sum(map(len, packed)) * _UNPACK_NS > max_decode_ms * 1e6:
        _check_unpacked(packed, _most_bytes(data))
    return b"".join([PNG_START, *(data[start:end] for _, start, end in kept)])


def _check_unpacked(packed: list[bytes], most_bytes: int) -> None:
    """That a PNG's data unpack to no more than its pixels take."""
    unpacked, stream = 0, zlib.decompressobj()
    pieces = (
        part[start : start + _PACKED_BYTES]
        for part in packed
        for start in range(0, len(part), _PACKED_BYTES)
    )
    for part in pieces:
        while part and not stream.eof:
            try:
                unpacked += len(stream.decompress(part, _UNPACK_BYTES))
            except zlib.error as error:
                raise DamagedImage("a whole PNG", f"data that do not unpack ({error})") from error
            if unpacked > most_bytes:
                raise DamagedImage(
                    f"a PNG whose data unpack to at most {most_bytes} bytes", "more than that"
                )
            part = stream.unconsumed_tail


def _most_bytes(data: bytes) -> int:
    """Bound of a PNG's unpacked data: interlacing at most doubles what its rows need."""
    height, width = size_of(data)
    return 2 * height * (2 + width * bits_per_pixel(data) // 8)


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width of a PNG; what is asked below is there then, too.

    Raises:
        DamagedImage: it does not begin with its header, the chunk IHDR.
    """
    if len(data) >= len(PNG_START) + _IHDR.size:
        length, kind, width, height, *_ = _IHDR.unpack_from(data, len(PNG_START))
        if kind == b"IHDR" and length == _IHDR_BYTES:
            return height, width
    raise DamagedImage("a whole PNG", f"{len(data)} bytes of damaged header")


def bits_per_pixel(data: bytes) -> int:
    return depth_of(data) * _CHANNELS.get(data[25], 4)


def depth_of(data: bytes) -> int:
    """Bits of one channel."""
    return data[24]


def is_interlaced(data: bytes) -> bool:
    return data[28] == 1
