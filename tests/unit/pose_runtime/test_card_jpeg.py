"""Which JPEGs a card's decoder is given, and what the network's step believes of what comes."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg

from pose_runtime.card_jpeg import (
    CardJpeg,
    for_card,
    pack_pixels,
    pitch,
    place_bytes,
    unpack,
)
from pose_runtime.errors import ContractError, ImageError
from pose_runtime.image_headers import Header, checked_image
from pose_runtime.spec import ImageLimits

NETWORK_HW = (96, 128)
LIMITS = ImageLimits()


def jpeg(height=120, width=150, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return simplejpeg.encode_jpeg(pixels, **options)


def taken(data: bytes) -> CardJpeg | None:
    return for_card(checked_image(data, LIMITS), NETWORK_HW)


@pytest.mark.parametrize(
    ("subsampling", "sampling"), [("444", (1, 1)), ("422", (1, 2)), ("420", (2, 2))]
)
def test_plain_jpegs_are_for_the_card(subsampling, sampling):
    data = jpeg(colorsubsampling=subsampling)

    assert taken(data) == CardJpeg(data, (120, 150), 1, sampling)


def with_marker(data: bytes, marker: int, content: bytes) -> bytes:
    """Another segment, directly behind the start."""
    segment = bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content
    return data[:2] + segment + data[2:]


def as_progressive(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + b"\xc2" + data[at + 2 :]


def without_jfif(data: bytes) -> bytes:
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]


@pytest.mark.parametrize(
    "data",
    [
        jpeg(900, 900),  # the CPU decodes it at half its size
        jpeg(20, 150),  # too low
        jpeg()[:-2],  # no end
        jpeg() + b"more",
        jpeg(colorsubsampling="440"),
        as_progressive(jpeg()),
        with_marker(without_jfif(jpeg()), 0xEE, b"Adobe\0\0\0\0\0\0\0"),  # RGB as it is
    ],
    ids=["large", "low", "cut", "longer", "440", "progressive", "rgb"],
)
def test_other_jpegs_are_left_to_the_cpu(data):
    assert taken(data) is None


def test_colours_that_adobe_calls_ycc_are_for_the_card():
    data = with_marker(without_jfif(jpeg()), 0xEE, b"Adobe\0\0\0\0\0\0\1")

    assert taken(data) is not None


def test_what_is_packed_is_unpacked():
    image = taken(jpeg())
    pixels = np.arange(96 * 128 * 3, dtype=np.uint32).astype(np.uint8).reshape(96, 128, 3)

    assert unpack(image.pack(), NETWORK_HW, LIMITS) == image
    assert (unpack(pack_pixels(pixels), NETWORK_HW, LIMITS) == pixels).all()


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        jpeg(),
        b"\1\1\1\2\2",
        b"\1\1\1\2\2\xff\xff\xff\xff" + jpeg(),  # planes larger than their place
        b"\1\1\1\3\1\x40\0\x40\0" + jpeg(),  # no sampling of ours
        b"\1\1\x09\2\2\x40\0\x40\0" + jpeg(),  # no orientation
        b"\1\0\1\0\0\x60\0\x80\0" + bytes(7),  # fewer pixels than told
    ],
)
def test_bytes_that_preprocessing_did_not_make_are_refused(packed):
    with pytest.raises(ContractError, match="encoded: expected what preprocessing for a GPU makes"):
        unpack(packed, NETWORK_HW, LIMITS)


def test_of_a_direct_caller_no_more_bytes_are_taken_than_of_others():
    image = taken(jpeg())

    with pytest.raises(ContractError):
        unpack(image.pack(), NETWORK_HW, ImageLimits(max_bytes=len(image.data) - 1))


def test_changed_headers_are_refused_or_understood():
    rng = np.random.default_rng(0)
    sources = [jpeg(60, 80, colorsubsampling=kind) for kind in ("444", "422", "420")]
    for number in range(3000):
        data = bytearray(sources[number % len(sources)])
        scan = data.index(b"\xff\xda")
        for _ in range(3):
            at = int(rng.integers(2, scan + 12))
            match int(rng.integers(0, 3)):
                case 0:
                    data[at] = int(rng.integers(0, 256))
                case 1:
                    del data[at : at + int(rng.integers(1, 9))]
                case 2:
                    data[at:at] = rng.bytes(3)
        if number % 10 == 0:
            data = data[: int(rng.integers(20, scan))] + b"\xff\xd9"
        with contextlib.suppress(ImageError):
            image = taken(bytes(data))
            assert image is None or unpack(image.pack(), NETWORK_HW, LIMITS) == image


@pytest.mark.parametrize(("height", "width", "is_taken"), [(32, 40, True), (31, 40, False)])
@pytest.mark.parametrize("turned", [False, True])
def test_32_pixels_are_the_least_side(height, width, is_taken, turned):
    data = jpeg(width, height) if turned else jpeg(height, width)
    assert (taken(data) is not None) == is_taken


def test_planes_of_colours_are_rounded_up():
    def planes(sampling):
        return CardJpeg(b"", (121, 151), 1, sampling).planes_hw

    assert planes((0, 0)) == [(121, 151)]
    assert planes((1, 1)) == [(121, 151)] * 3
    assert planes((1, 2)) == [(121, 151), (121, 76), (121, 76)]
    assert planes((2, 2)) == [(121, 151), (61, 76), (61, 76)]


@pytest.mark.parametrize(("orientation", "hw"), [(1, (30, 50)), (4, (30, 50)), (5, (50, 30))])
def test_upright_sides_change_places_from_orientation_5_on(orientation, hw):
    assert CardJpeg(b"", (30, 50), orientation, (1, 1)).upright_hw == hw


def test_rows_are_multiples_of_64_bytes():
    assert [pitch(columns) for columns in (1, 64, 65, 128)] == [64, 64, 128, 128]
    # Three planes of twice the network's sides.
    assert place_bytes((96, 128)) == 3 * 192 * 256
    assert place_bytes((100, 70)) == 3 * 256 * 192


def test_what_travels_has_a_head_of_nine_bytes():
    image = CardJpeg(b"jpeg", (300, 400), 6, (1, 2))
    assert image.pack() == b"\1\1\6\1\2\x2c\1\x90\1jpeg"
    pixels = np.full((96, 128, 3), 7, np.uint8)
    assert pack_pixels(pixels) == b"\1\0\1\0\0\x60\0\x80\0" + b"\7" * 96 * 128 * 3


HEAD = b"\1\1\1\2\2\x40\0\x40\0"


@pytest.mark.parametrize(
    ("packed", "is_ours"),
    [
        (HEAD + b"x", True),
        (HEAD, False),
        (b"\2" + HEAD[1:] + b"x", False),
        (b"\1\2" + HEAD[2:] + b"x", False),
        (b"\1\1\0" + HEAD[3:] + b"x", False),
        (b"\1\1\x08" + HEAD[3:] + b"x", True),
        (HEAD[:5] + b"\x20\0\x40\0x", True),
        (HEAD[:5] + b"\x1f\0\x40\0x", False),
        (HEAD[:5] + b"\x40\0\x1f\0x", False),
        (b"\1\1\1\0\0\xc0\0\0\3x", True),  # 192 x 768, all of the place
        (b"\1\1\1\0\0\xc1\0\0\3x", False),
        (b"\1\0\1\0\0\x60\0\x80\0" + bytes(96 * 128 * 3 + 1), False),
        (b"\1\0\1\0\0\x80\0\x60\0" + bytes(96 * 128 * 3), False),
        (b"\1\0\1\0\0\x60\0\x80\0" + bytes(96 * 128 * 3), True),
    ],
)
def test_each_byte_of_the_head_is_looked_at(packed, is_ours):
    if is_ours:
        unpack(packed, NETWORK_HW, LIMITS)
    else:
        with pytest.raises(ContractError, match=f"got {len(packed)} bytes of something else"):
            unpack(packed, NETWORK_HW, LIMITS)


def test_the_most_bytes_of_a_request_are_accepted():
    limits = ImageLimits(max_bytes=5)
    assert unpack(HEAD + b"12345", NETWORK_HW, limits).hw == (64, 64)
    with pytest.raises(ContractError):
        unpack(HEAD + b"123456", NETWORK_HW, limits)


def test_another_format_and_what_is_not_surely_quick_is_left_to_the_cpu():
    data = jpeg()
    image = checked_image(data, LIMITS)
    assert for_card(replace(image, is_quick=False), NETWORK_HW) is None
    png = replace(image, header=Header("PNG", (120, 150)))
    assert for_card(png, NETWORK_HW) is None
    assert for_card(replace(image, header=Header("JPEG", (120, 151))), NETWORK_HW) is None


@pytest.mark.parametrize(("height", "width", "is_taken"), [(190, 200, True), (194, 200, False)])
def test_a_picture_of_more_than_twice_the_networks_size_is_averaged_by_the_cpu(
    height, width, is_taken
):
    assert (taken(jpeg(height, width)) is not None) == is_taken
