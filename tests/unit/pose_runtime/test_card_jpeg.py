"""Which JPEGs a card's decoder is given, and what the network's step believes of what comes."""

import contextlib

import numpy as np
import pytest
import simplejpeg

from pose_runtime.card_jpeg import CardJpeg, for_card, pack_pixels, unpack
from pose_runtime.errors import ContractError, ImageError
from pose_runtime.image_headers import checked_image
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
