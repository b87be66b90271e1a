"""What a header tells is held against what libjpeg, libpng and libwebp really do."""

from __future__ import annotations

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

from pose_runtime.errors import ImageError
from pose_runtime.image_headers import checked_image, count_scans, has_end, read_header
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
