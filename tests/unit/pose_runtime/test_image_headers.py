"""What a header tells is held against what libjpeg, libpng and libwebp really do."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pose_runtime.errors import BeyondLimit, DamagedImage, ImageError, UnknownFormat
from pose_runtime.image_headers import (
    Header,
    JpegFrame,
    checked_image,
    count_scans,
    exif_orientation,
    has_end,
    jpeg_frame,
    read_header,
)
from pose_runtime.images import decode_image
from pose_runtime.spec import ImageLimits
from tests.fuzz import hostile_images
from tests.fuzz.hostile_images import png_chunk, progressive, scans_of

LIMITS = ImageLimits()
# What the estimate may be wrong by, upwards: see `_QUICK_PART`. Together with what a call takes
# anyway, and a machine that is busy with other things.
MOST_TIMES, MOST_MORE_MS = 4, 60
# Adam7's passes: first column and row, steps.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


def scans_that_libjpeg_sees(jpeg: bytes) -> int:
    """Decoding is put off scan by scan: each one that is left away changes what comes out.

    A grey progressive picture of one block, whose first scan has DC 0. Each later scan refines it,
    so the pixels tell how many scans were read.
    """
    return int(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)[0, 0])


def segment(marker: int, content: bytes, length: int | None = None) -> bytes:
    size = len(content) + 2 if length is None else length
    return bytes([0xFF, marker]) + struct.pack(">H", size) + content


def counting_jpeg(between: list[bytes]) -> tuple[bytes, int]:
    """One block whose DC grows by a bit with each scan: first scan `1`, then refinements `1`.

    Returns:
        The file, and its scans. Brightness = 128 + DC / 8, and n scans of 8 set the upper n bits of
        DC, so that libjpeg's brightness tells how many scans it has read.
    """
    frame = segment(0xC2, struct.pack(">BHHB", 8, 8, 8, 1) + bytes([1, 0x11, 0]))
    quantisation = segment(0xDB, b"\0" + b"\1" * 64)
    # One code of one bit, 0: a difference of 1 bit.
    huffman = segment(0xC4, b"\0" + bytes([1]) + bytes(15) + b"\1")
    scans = []
    for index in range(len(between) + 1):
        high, low = (0, 9) if index == 0 else (10 - index, 9 - index)
        spectral = bytes([1, 1, 0, 0, 0, high << 4 | low])
        data = b"\x7f" if index == 0 else b"\xff\x00"  # code 0, then bits 1; refinement: bit 1
        scans.append(segment(0xDA, spectral) + data)
    body = scans[0] + b"".join(piece + scan for piece, scan in zip(between, scans[1:], strict=True))
    return b"\xff\xd8" + quantisation + frame + huffman + body + b"\xff\xd9", len(scans)


# What may stand between scans: libjpeg goes on behind it.
BETWEEN = st.one_of(
    st.just(b""),
    st.sampled_from([b"\xff\x01", b"\xff\xd0", b"\xff\xd7", b"\xff\xff\xff\x01", b"\xff\x00"]),
    st.binary(max_size=6).filter(lambda data: b"\xff" not in data),
    st.builds(segment, st.sampled_from([0xFE, 0xE1, 0xE2, 0xEF]), st.binary(max_size=20)),
    st.builds(segment, st.just(0xFE), st.just(b""), st.sampled_from([0, 1, 2])),
)


@given(st.lists(st.lists(BETWEEN, max_size=3).map(b"".join), max_size=8))
@settings(deadline=None, max_examples=200)
def test_libjpeg_sees_no_scan_that_was_not_counted(between):
    jpeg, scans = counting_jpeg(between)
    dc = sum(1 << 9 - index for index in range(scans))
    brightness = min(255, 128 + round(dc / 8))
    assert abs(scans_that_libjpeg_sees(jpeg) - brightness) <= 1  # it read all
    assert count_scans(jpeg) == scans
    assert has_end(jpeg)


@given(st.integers(0, 255), st.binary(max_size=4))
@settings(deadline=None, max_examples=300)
def test_whatever_marker_comes_first_no_scan_behind_it_is_overlooked(marker, rest):
    """If libjpeg changes the picture by what is behind a marker, then we have counted it."""
    jpeg = progressive(hostile_images.noise(16))
    last = scans_of(jpeg)[-1]
    with_last = jpeg[:last] + bytes([0xFF, marker]) + rest + jpeg[last:]
    without = jpeg[:last] + b"\xff\xd9"
    pixels, fewer = (
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        for data in (with_last, without)
    )
    if pixels is not None and (pixels != fewer).any():
        try:
            assert count_scans(with_last) > count_scans(without)
        except ImageError:
            return  # refused


@given(st.sampled_from(hostile_images.FORMATS), st.integers(0, 2**32), st.integers(1, 30))
@settings(deadline=None, max_examples=200)
def test_the_size_of_what_decodes_is_the_header_s(extension, seed, bits):
    data = hostile_images.flipped(
        hostile_images.encoded(extension, hostile_images.noise(20)), seed, bits
    )
    try:
        header = read_header(data)
        pixels = decode_image(data, LIMITS)
    except ImageError:
        return
    assert pixels.shape[:2] == header.upright_hw


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
@given(orientation=st.integers(0, 9), little=st.booleans(), before=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_orientation_is_what_pillow_reads(extension, orientation, little, before):
    order, mark = ("<", b"II*\0") if little else (">", b"MM\0*")
    other = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, 7, 0) for tag in range(before))
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = mark + struct.pack(f"{order}IH", 8, before + 1) + other + entry + bytes(4)
    file = io.BytesIO()
    Image.new("RGB", (20, 10)).save(file, {"jpg": "jpeg"}.get(extension, extension), exif=tiff)
    read = Image.open(io.BytesIO(file.getvalue())).getexif().get(0x0112, 1)
    assert read_header(file.getvalue()).orientation == (read if 1 <= read <= 8 else 1)


def png(side: int, depth: int, colours: int, interlaced: bool, filter_type: int) -> bytes:
    """Noise of few bits, whose every row is filtered: the dearest that we could draw."""
    random = np.random.default_rng(0)
    rows = []
    for x, y, dx, dy in PASSES if interlaced else ((0, 0, 1, 1),):
        width, height = -((x - side) // dx), -((y - side) // dy)
        row = np.empty((height, 1 + (width * depth * CHANNELS[colours] + 7) // 8), np.uint8)
        row[:, 0] = filter_type
        row[:, 1:] = random.integers(0, 4, (height, row.shape[1] - 1))
        rows.append(row.tobytes())
    header = struct.pack(">IIBBBBB", side, side, depth, colours, 0, 0, interlaced)
    packed = zlib.compress(b"".join(rows), 1)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    return hostile_images.PNG_START + chunks


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "colours"), [(1, 0), (8, 0), (8, 2), (8, 6), (16, 2), (16, 6)])
def test_a_png_takes_at_most_4_times_the_estimate(depth, colours, interlaced):
    assert_estimate_holds(png(700, depth, colours, interlaced, filter_type=4))


@pytest.mark.parametrize("kind", ["flat", "noise"])
@pytest.mark.parametrize("extension", ["jpg", "webp", "bmp", "progressive"])
def test_another_format_takes_at_most_4_times_the_estimate(extension, kind):
    pixels = hostile_images.noise(600) if kind == "noise" else np.full((600, 600, 3), 90, np.uint8)
    if extension == "progressive":
        assert_estimate_holds(progressive(pixels))
    else:
        assert_estimate_holds(hostile_images.encoded(extension, pixels))


def test_a_jpeg_whose_every_coefficient_takes_2_bits_takes_at_most_4_times_the_estimate():
    assert_estimate_holds(dense_jpeg(600))


def dense_jpeg(side: int) -> bytes:
    """As many coefficients as a byte of baseline JPEG can hold: code 0, then one bit."""
    tables = segment(0xC4, b"\0" + bytes([1]) + bytes(15) + b"\1")
    tables += segment(0xC4, b"\x10" + bytes([1]) + bytes(15) + b"\1")
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    frame = segment(0xC0, struct.pack(">BHHB", 8, side, side, 3) + components)
    scan = segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0]))
    blocks = 3 * (-(-side // 8)) ** 2
    data = b"\x55" * (blocks * 16)  # 0, 1, 0, 1: each coefficient is 1
    start = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    return start + frame + tables + scan + data + b"\xff\xd9"


def test_the_dense_jpeg_is_whole():
    assert simplejpeg.decode_jpeg(dense_jpeg(64), "RGB").shape == (64, 64, 3)


def assert_estimate_holds(data: bytes) -> None:
    expected_ms = checked_image(data, ImageLimits(max_decode_ms=10**6)).expected_ms
    took_ms = []
    for _ in range(3):
        started = time.process_time()  # of this process: others may be busy
        decode_image(data, ImageLimits(max_decode_ms=10**6))
        took_ms.append((time.process_time() - started) * 1e3)
    assert min(took_ms) <= MOST_TIMES * expected_ms + MOST_MORE_MS


def test_arithmetic_coding_and_wide_interlaced_pngs_are_expected_to_take_longer():
    jpeg = hostile_images.encoded("jpg", hostile_images.picture())
    arithmetic = hostile_images.answered()["a JPEG with arithmetic coding"]
    assert len(arithmetic) < len(jpeg)
    assert checked_image(arithmetic, LIMITS).expected_ms > checked_image(jpeg, LIMITS).expected_ms
    wide, narrow = png(100, 16, 6, True, 4), png(100, 8, 2, False, 4)
    assert checked_image(wide, LIMITS).expected_ms > 5 * checked_image(narrow, LIMITS).expected_ms


def test_a_photo_is_quick_and_a_huge_picture_is_not():
    photo = hostile_images.encoded("jpg", hostile_images.noise(1500))
    assert checked_image(photo, LIMITS).is_quick
    huge = hostile_images.encoded("png", np.zeros((4000, 5000, 3), np.uint8))
    assert not checked_image(huge, LIMITS).is_quick


def claiming(extension: str, width: int, height: int) -> bytes:
    """A header of that size, and few bytes behind it."""
    match extension:
        case "bmp":
            return hostile_images.bmp_claiming(width, height)
        case "webp":
            return hostile_images.webp_claiming(width, height)
        case _:
            jpeg = hostile_images.encoded("jpg", hostile_images.picture())
            return hostile_images.jpeg_claiming(jpeg, width, height)


def expected_ns(data: bytes) -> float:
    return checked_image(data, ImageLimits(max_decode_ms=10**6)).expected_ms * 1e6


@pytest.mark.parametrize(
    ("extension", "by_pixel", "by_byte", "by_scan"),
    [("jpg", 3 + 1.5, 8, 5000), ("webp", 8, 50, 0), ("bmp", 6, 0, 0)],
)
def test_time_is_by_pixel_and_by_byte(extension, by_pixel, by_byte, by_scan):
    data = claiming(extension, 1000, 800)
    expected = 800_000 * by_pixel + len(data) * by_byte + by_scan
    assert expected_ns(data) == pytest.approx(expected, rel=1e-12)


def test_time_is_by_scan_and_by_an_arithmetic_coders_bits():
    arithmetic = hostile_images.answered()["a JPEG with arithmetic coding"]
    one_scan = 2400 * 1.5 + 5000
    assert expected_ns(arithmetic) == pytest.approx(
        2400 * 30 + len(arithmetic) * 180 + one_scan, rel=1e-12
    )
    several = progressive(hostile_images.picture())
    scans = len(scans_of(several))
    assert {place % 2 for place in scans_of(several)} == {0, 1}
    assert expected_ns(several) == pytest.approx(
        2400 * 3 + len(several) * 8 + scans * one_scan, rel=1e-12
    )


@pytest.mark.parametrize("marker", [0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB])
def test_the_frames_marker_tells_arithmetic_coding(marker):
    jpeg = claiming("jpg", 60, 40)
    at = jpeg.index(b"\xff\xc0") + 1
    other = jpeg[:at] + bytes([marker]) + jpeg[at + 1 :]
    assert (expected_ns(other) > 2 * expected_ns(jpeg)) == (marker > 0xC8)


@pytest.mark.parametrize(
    ("depth", "colours", "interlaced", "by_pixel"),
    [
        (8, 2, False, 2 + 3 * 2.7),
        (8, 2, True, 2 + 5 + 3 * 2.7),
        (1, 0, False, 2 + 2.7 / 8),
        (16, 6, False, 2 + 8 * 10),
    ],
)
def test_a_pngs_time_is_by_pixel_unpacked_byte_and_byte(depth, colours, interlaced, by_pixel):
    data = png(32, depth, colours, interlaced, 0)
    assert expected_ns(data) == pytest.approx(1024 * by_pixel + len(data) * 10, rel=1e-12)


def test_quick_is_what_takes_less_than_a_quarter_of_the_limit():
    data = claiming("bmp", 1000, 1000)  # 6 ms
    assert checked_image(data, ImageLimits(max_decode_ms=25)).is_quick
    assert not checked_image(data, ImageLimits(max_decode_ms=24)).is_quick


def test_each_limit_is_the_most_that_is_accepted():
    data = claiming("bmp", 1000, 1000)
    most = ImageLimits(max_bytes=len(data), max_pixels=10**6, max_decode_ms=6)
    assert checked_image(data, most).header == Header("BMP", (1000, 1000))
    for less, words in (
        (
            {"max_bytes": len(data) - 1},
            f"at most {len(data) - 1} bytes (max_bytes), got {len(data)}",
        ),
        (
            {"max_pixels": 10**6 - 1},
            "at most 999999 pixels (max_pixels), got BMP of 1000 x 1000",
        ),
        (
            {"max_decode_ms": 5},
            "at most 5 ms of decoding (max_decode_ms), got BMP of 1000 x 1000, 154 bytes, which may"
            " take 6 ms",
        ),
    ):
        with pytest.raises(BeyondLimit) as caught:
            checked_image(data, ImageLimits(**less))
        assert words in str(caught.value)


def test_scans_are_counted_exactly_where_it_matters():
    """100,000 times the bytes of a scan's start behind the end are no scan."""
    jpeg = hostile_images.encoded("jpg", hostile_images.picture())
    assert expected_ns(jpeg + b"\xff\xda" * 1000) > 1000 * 5000
    checked_image(jpeg + b"\xff\xda" * 100_000, ImageLimits(max_decode_ms=10))
    several = progressive(np.zeros((400, 400, 3), np.uint8))
    scans = len(scans_of(several))
    with pytest.raises(BeyondLimit, match=f"got JPEG of 400 x 400 in {scans} scans, "):
        checked_image(several, ImageLimits(max_decode_ms=1))


def canvas(width: int, height: int, *content: bytes, flags: int = 0) -> bytes:
    return hostile_images.webp_claiming(width, height, b"".join(content), flags)


def bits_of_a_lossless_webp(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14 | 1 << 28  # with alpha
    return b"RIFF\x20\0\0\0WEBPVP8L\x14\0\0\0\x2f" + struct.pack("<I", bits)


def start_of_a_lossy_webp(width: int, height: int) -> bytes:
    sides = struct.pack("<HH", width | 1 << 14, height | 2 << 14)  # to be shown larger
    return b"RIFF\x20\0\0\0WEBPVP8 \x14\0\0\0" + b"\x10\2\0\x9d\x01\x2a" + sides


def small_bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIHHHH", 26, 0, 0, 26, 12, width, height, 1, 24)


@pytest.mark.parametrize(
    ("data", "hw"),
    [
        (canvas(70_000, 300), (300, 70_000)),
        (canvas(1, 2**24), (2**24, 1)),
        (bits_of_a_lossless_webp(16_384, 1), (1, 16_384)),
        (bits_of_a_lossless_webp(300, 16_384), (16_384, 300)),
        (start_of_a_lossy_webp(16_383, 300), (300, 16_383)),
        (start_of_a_lossy_webp(1, 16_383), (16_383, 1)),
        (small_bmp(40_000, 50_000), (50_000, 40_000)),
        (hostile_images.bmp_claiming(70_000, -80_000), (80_000, 70_000)),
    ],
)
def test_sizes_are_read_as_the_format_stores_them(data, hw):
    assert read_header(data).hw == hw


def test_animated_is_what_a_webps_flag_says():
    assert read_header(canvas(60, 40, flags=0xFF - 2)).image_format == "WebP"
    with pytest.raises(UnknownFormat, match=r"got animated WebP$"):
        read_header(canvas(60, 40, flags=2))
    for cut in (20, 29):
        with pytest.raises(DamagedImage, match=f"a whole WebP, got {cut} bytes of damaged header"):
            read_header(canvas(60, 40)[:cut])


@pytest.mark.parametrize("start", [b"RIFF\0\0\0\0WAVE", b"RIFX\0\0\0\0WEBP", b"\xff\xd8\0"])
def test_half_of_a_formats_mark_is_none(start):
    with pytest.raises(UnknownFormat, match="got 40 bytes starting with"):
        read_header(start.ljust(40, b"\0"))


def test_the_prefix_of_a_text_ends_within_128_characters():
    text = base64.b64encode(canvas(60, 40))
    assert read_header(b"data:" + b"x" * 122 + b"," + text).hw == (40, 60)
    for prefix in (b"data:" + b"x" * 123 + b",", b"data:", b"data,"):
        with pytest.raises(UnknownFormat):
            read_header(prefix + text)


def tiff_of(*entries: tuple[int, int, int], mark: bytes = b"II*\0") -> bytes:
    packed = b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries)
    return mark + struct.pack("<IH", 8, len(entries)) + packed


@pytest.mark.parametrize(
    ("tiff", "orientation"),
    [
        (tiff_of((0x0112, 3, 6)), 6),
        (tiff_of((0x0112, 4, 1)), 1),
        (tiff_of((0x0112, 4, 8)), 8),
        (tiff_of((0x0112, 1, 6)), 1),  # of a type that it cannot have
        (tiff_of((0x0112, 5, 6)), 1),
        (tiff_of((0x0112, 1, 6), (0x0112, 3, 5)), 5),
        (tiff_of((0x0111, 3, 6), (0x0113, 3, 7)), 1),
        (tiff_of(), 1),
        (tiff_of((0x0112, 3, 6), mark=b"IM*\0"), 1),
        (tiff_of((0x0112, 3, 6))[:17], 1),
    ],
)
def test_the_orientation_is_the_first_directorys(tiff, orientation):
    jpeg = hostile_images.with_exif(claiming("jpg", 60, 40), tiff)
    assert exif_orientation(jpeg) == orientation
    chunk = b"EXIF" + struct.pack("<I", len(tiff)) + tiff
    for webp in (canvas(60, 40, chunk), canvas(60, 40, b"ODD \1\0\0\0x\0", chunk)):
        assert read_header(webp).orientation == orientation


def test_an_orientation_behind_the_picture_of_a_jpeg_or_too_many_chunks_is_not_looked_for():
    jpeg = claiming("jpg", 60, 40)
    exif = segment(0xE1, b"Exif\0\0" + tiff_of((0x0112, 3, 6)))
    assert exif_orientation(jpeg[:-2] + exif + jpeg[-2:]) == 1
    assert exif_orientation(jpeg[:2] + segment(0xE1, b"http://ns.adobe.com") + exif + jpeg[2:]) == 6
    empty, tiff = b"NONE\0\0\0\0", tiff_of((0x0112, 3, 6))
    chunk = b"EXIF" + struct.pack("<I", len(tiff)) + tiff
    assert read_header(canvas(60, 40, empty * 19_998, chunk)).orientation == 6
    assert read_header(canvas(60, 40, empty * 19_999, chunk)).orientation == 1
    assert read_header(claiming("bmp", 60, 40)).orientation == 1


def test_20_thousand_segments_are_the_most():
    segments = b"\xff\xd8" + segment(0xFE, b"") * 19_999
    assert has_end(segments + b"\xff\xd9")
    assert not has_end(segments)
    with pytest.raises(DamagedImage, match="a whole JPEG, got more than 20000 segments"):
        has_end(segments + segment(0xFE, b"") + b"\xff\xd9")


@pytest.mark.parametrize("marker", [0xC0, 0xC4, 0xCF, 0xDA, 0xFE])
def test_what_is_in_a_segment_is_not_looked_at(marker):
    assert not has_end(b"\xff\xd8" + segment(marker, b"\xff\xd9"))


@pytest.mark.parametrize("marker", [0x01, 0x02, 0xBF, 0xD0, 0xD7, 0xD8])
def test_markers_that_stand_alone_have_no_length(marker):
    assert has_end(b"\xff\xd8" + segment(marker, b"\xff\xd9"))


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
COLOURS = {(1, 1): 0x11, (1, 2): 0x21, (2, 2): 0x22}


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def frame(factors=(0x22, 0x11, 0x11), ids=b"\1\2\3", bits=8, marker=0xC0, more=b"") -> bytes:
    parts = b"".join(
        bytes([number, factor, 0]) for number, factor in zip(ids, factors, strict=True)
    )
    return segment(marker, struct.pack(">BHHB", bits, 40, 60, len(factors)) + parts + more)


def scan(components=3, told=None, end=b"\0\x3f\0", more=b"") -> bytes:
    parts = b"".join(bytes([number + 1, 0]) for number in range(components))
    return segment(0xDA, bytes([told or components]) + parts + end + more) + b"data"


def jpeg_with(*parts: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


GREY_FRAME = frame((0x11,), b"\1")


@pytest.mark.parametrize(
    ("parts", "sampling"),
    [
        *(
            ((JFIF, frame((factor, 0x11, 0x11)), scan()), sampling)
            for sampling, factor in COLOURS.items()
        ),
        ((JFIF, GREY_FRAME, scan(1)), (0, 0)),
        ((adobe(0), GREY_FRAME, scan(1)), (0, 0)),
        ((frame(), scan()), (2, 2)),
        ((adobe(1), frame(), scan()), (2, 2)),
        ((JFIF, adobe(0), frame(), scan()), (2, 2)),  # JFIF has one kind of colours
        ((segment(0xEE, b"Adobe\0\x64\0\0\0\0"), frame(), scan()), (2, 2)),  # too short
        ((segment(0xEE, b"other\0\x64\0\0\0\0\0"), frame(), scan()), (2, 2)),
        ((segment(0xFE, b"\xff\xda\xff\xda"), frame(), scan()), (2, 2)),
        ((JFIF, frame(ids=b"RGC"), scan()), (2, 2)),
    ],
)
def test_a_plain_jpeg_has_a_frame(parts, sampling):
    assert jpeg_frame(jpeg_with(*parts)) == JpegFrame((40, 60), sampling)


@pytest.mark.parametrize(
    "parts",
    [
        (adobe(0), frame(), scan()),
        (adobe(2), frame(), scan()),
        (segment(0xE0, b"JFXX\0"), adobe(0), frame(), scan()),
        (JFIF, frame(bits=12), scan()),
        (JFIF, frame(marker=0xC1), scan()),
        (JFIF, frame(marker=0xC2), scan()),
        (JFIF, frame(), frame(), scan()),
        (JFIF, frame(more=b"\0"), scan()),
        (JFIF, segment(0xC0, b"\x08\0\x28\0\x3c\0"), scan()),
        (JFIF, frame(ids=b"RGB"), scan()),
        (JFIF, frame((0x11, 0x11), b"\1\2"), scan(2)),
        (JFIF, frame((0x11, 0x11, 0x11, 0x11), b"\1\2\3\4"), scan(4)),
        (JFIF, frame((0x22, 0x21, 0x11)), scan()),
        (JFIF, frame((0x22, 0x11, 0x12)), scan()),
        (JFIF, frame((0x41, 0x11, 0x11)), scan()),
        (JFIF, frame((0x12, 0x11, 0x11)), scan()),
        (JFIF, frame((0x22,), b"\1"), scan(1)),
        (JFIF, frame(), scan(1), scan(2)),
        (JFIF, frame(), scan(), scan()),
        (JFIF, frame(), scan(more=b"\0")),
        (JFIF, frame(), scan(told=1)),
        (JFIF, frame(), scan(end=b"\1\x3f\0")),
        (JFIF, frame(), scan(end=b"\0\x3e\0")),
        (JFIF, frame(), scan(end=b"\0\x3f\1")),
        (JFIF, GREY_FRAME, scan(3)),
        (JFIF, scan(), frame()),
        (JFIF, frame()),
        (JFIF, scan()),
        (JFIF,),
    ],
)
def test_another_jpeg_has_none(parts):
    assert jpeg_frame(jpeg_with(*parts)) is None


def test_a_plain_jpeg_ends_with_its_end():
    assert jpeg_frame(jpeg_with(JFIF, frame(), scan())[:-2]) is None
    assert jpeg_frame(jpeg_with(JFIF, frame(), scan()) + b"\0") is None


@pytest.mark.parametrize("marker", [0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB])
def test_a_plain_jpeg_has_one_frame(marker):
    assert jpeg_frame(jpeg_with(JFIF, frame(), frame(marker=marker), scan())) is None


@pytest.mark.parametrize("more", range(6))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_text_is_read_with_any_number_of_missing_letters(encode, more):
    text = encode(canvas(60, 40) + b"\xfb\xff" * more)
    for spaced in (
        text,
        text.rstrip(b"="),
        b"\n".join(text[at : at + 9] for at in range(0, 99, 9)),
    ):
        assert read_header(spaced).hw == (40, 60)


def test_one_format_is_named_alone():
    with pytest.raises(UnknownFormat, match="expected BMP bytes, or their base64 text, got WebP"):
        checked_image(canvas(60, 40), ImageLimits(formats=("BMP",)))
    with pytest.raises(UnknownFormat, match=r"^image: expected JPEG, PNG, WebP or BMP bytes, or"):
        read_header(b"")
