"""Chunks that are kept, and how much a PNG's data may unpack to."""

import struct
import zlib

import pytest

from pose_runtime.errors import DamagedImage
from pose_runtime.image_headers import checked_image
from pose_runtime.png_chunks import (
    PNG_START,
    bits_per_pixel,
    chunks,
    depth_of,
    is_interlaced,
    pixels_only,
    size_of,
)
from pose_runtime.spec import ImageLimits
from tests.fuzz.hostile_images import png_chunk, png_of

END = png_chunk(b"IEND", b"")


def header(depth: int, colours: int, interlaced: int = 0) -> bytes:
    content = struct.pack(">IIBBBBB", 60, 40, depth, colours, 0, 0, interlaced)
    return PNG_START + png_chunk(b"IHDR", content)


def test_each_chunk_is_named_with_its_place():
    png = header(8, 2) + png_chunk(b"IDAT", b"abc") + END + b"behind the end"
    found = list(chunks(png))
    assert found == [(b"IHDR", 8, 33), (b"IDAT", 33, 48), (b"IEND", 48, 60)]


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_chunk_that_is_not_all_there_is_damage(cut):
    png = header(8, 2) + png_chunk(b"IDAT", b"abc") + END
    with pytest.raises(DamagedImage, match=f"a whole PNG, got {60 - cut} bytes that end too early"):
        list(chunks(png[:-cut]))


def test_20_thousand_chunks_are_the_most():
    png = header(8, 2) + png_chunk(b"IDAT", b"") * 19_998
    assert len(list(chunks(png + END))) == 20_000
    with pytest.raises(DamagedImage, match="got more than 20000 chunks"):
        list(chunks(png + png_chunk(b"IDAT", b"") + END))


def test_only_what_the_pixels_need_is_kept():
    kinds = (b"PLTE", b"tEXt", b"tRNS", b"iCCP", b"IDAT", b"fdAT", b"eXIf")
    every = {kind: png_chunk(kind, b"some") for kind in kinds}
    kept = [every[kind] for kind in (b"PLTE", b"tRNS", b"IDAT")]
    png = header(8, 3) + b"".join(every.values()) + END
    assert pixels_only(png, 1000) == header(8, 3) + b"".join(kept) + END


@pytest.mark.parametrize(("colours", "channels"), [(0, 1), (2, 3), (3, 1), (4, 2), (6, 4), (5, 4)])
@pytest.mark.parametrize("depth", [1, 8, 16])
def test_bits_of_a_pixel_are_those_of_its_channels(depth, colours, channels):
    png = header(depth, colours)
    assert (depth_of(png), bits_per_pixel(png)) == (depth, depth * channels)


@pytest.mark.parametrize(
    "begin",
    [
        PNG_START,
        header(8, 2)[:28],
        PNG_START + END + header(8, 2)[8:],  # a whole IEND first, found by the fuzzer
        PNG_START + png_chunk(b"IHDR", bytes(14)),
        PNG_START + png_chunk(b"sRGB", bytes(13)),
    ],
)
def test_a_png_begins_with_its_header(begin):
    with pytest.raises(DamagedImage, match=r"a whole PNG, got \d+ bytes of damaged header"):
        size_of(begin)
    with pytest.raises(DamagedImage, match="of damaged header"):
        checked_image(begin, ImageLimits())


def test_the_size_is_rows_and_columns():
    assert size_of(png_of(60, 40, b"")) == (40, 60)


def test_interlacing_is_method_1():
    assert [is_interlaced(header(8, 2, method)) for method in (0, 1, 2)] == [False, True, False]


# Twice 40 rows of a filter's byte, 60 pixels of 3 bytes and one more.
MOST_BYTES = 2 * 40 * 182


@pytest.mark.parametrize("size", [MOST_BYTES, MOST_BYTES + 1])
@pytest.mark.parametrize("first", [0, 9])
def test_data_may_unpack_to_twice_the_rows(size, first):
    packed = zlib.compress(bytes(size))
    png = png_of(60, 40, packed[first:], png_chunk(b"IDAT", packed[:first]))
    if size <= MOST_BYTES:
        assert pixels_only(png, 0) == png
    else:
        with pytest.raises(DamagedImage, match=f"unpack to at most {MOST_BYTES} bytes, got more"):
            pixels_only(png, 0)


def test_large_data_are_unpacked_in_pieces():
    width, height = 1000, 800
    packed = zlib.compress(bytes(height * (1 + 3 * width)), 0)  # not made smaller
    png = png_of(width, height, packed)
    assert pixels_only(png, 0) == png
    with pytest.raises(DamagedImage, match=r"data that do not unpack \(.*check\)"):
        pixels_only(png_of(width, height, packed[:-1] + b"\0"), 0)


def test_what_cannot_take_long_is_not_unpacked():
    """A byte may stand for 1032, which take 0.55 ns each: 1761 bytes are within a millisecond."""
    assert pixels_only(png_of(60, 40, b"x" * 1761), 1) == png_of(60, 40, b"x" * 1761)
    with pytest.raises(DamagedImage, match="data that do not unpack"):
        pixels_only(png_of(60, 40, b"x" * 1762), 1)
