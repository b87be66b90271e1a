"""Bytes that want to break decoding: an answer or one line that says what was wrong, quickly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose_runtime.errors import BeyondLimit, ImageError, UnknownFormat
from pose_runtime.image_headers import image_size
from pose_runtime.images import decode_image, network_pixels
from pose_runtime.spec import ImageLimits
from tests.fuzz import hostile_images

LIMITS = ImageLimits()
NETWORK_HW = (32, 48)
SEEDS = [
    hostile_images.encoded(extension, hostile_images.noise(24))
    for extension in hostile_images.FORMATS
]


def decode_or_refuse(data: bytes) -> None:
    """Both ways of decoding agree; whatever is refused is refused by us."""
    try:
        whole = decode_image(data, LIMITS)
    except ImageError:
        return
    assert whole.dtype == np.uint8
    assert whole.ndim == 3
    assert image_size(data) == whole.shape[:2]
    try:
        pixels, letterbox = network_pixels(data, NETWORK_HW, LIMITS)
    except ImageError:
        return
    assert pixels.shape == (*NETWORK_HW, 3)
    assert letterbox.image_hw == whole.shape[:2]


@pytest.mark.parametrize("name", hostile_images.answered())
def test_an_unusual_picture_is_seen_as_it_is(name):
    data = hostile_images.answered()[name]

    pixels, _ = network_pixels(data, NETWORK_HW, LIMITS)

    assert np.abs(pixels.astype(int) - hostile_images.GREY).max() <= 3
    decode_or_refuse(data)


@pytest.mark.parametrize("name", hostile_images.refused())
def test_what_is_no_picture_is_refused_in_one_line(name):
    data, words = hostile_images.refused()[name]

    with pytest.raises(ImageError) as caught:
        network_pixels(data, NETWORK_HW, LIMITS)

    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", hostile_images.long_sides())
def test_a_side_of_65_thousand_pixels_is_placed(name):
    decode_or_refuse(hostile_images.long_sides()[name])


@given(st.sampled_from(SEEDS), st.integers(0, 2**32), st.integers(1, 40))
@settings(deadline=None, max_examples=150)
def test_flipped_bits_are_an_answer_or_an_error(data, seed, bits):
    decode_or_refuse(hostile_images.flipped(data, seed, bits))


@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff", hostile_images.PNG_START, b"BM", b"RIFF\0\0\0\0WEBPVP8X"]
    ),
    st.binary(max_size=300),
)
@settings(deadline=None, max_examples=150)
def test_any_bytes_behind_a_format_s_first_ones_are_an_answer_or_an_error(start, rest):
    decode_or_refuse(start + rest)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ImageLimits(max_bytes=100), "max_bytes"),
        (ImageLimits(max_pixels=2399), "max_pixels"),
        (ImageLimits(max_decode_ms=1), "max_decode_ms"),
    ],
)
def test_each_limit_is_a_setting_and_is_named(limits, reason):
    data = hostile_images.with_scans(
        hostile_images.progressive(np.zeros((40, 60, 3), np.uint8)), more=300
    )
    network_pixels(hostile_images.encoded("png", hostile_images.picture()), NETWORK_HW, LIMITS)

    with pytest.raises(BeyondLimit, match=rf"\({reason}\)") as caught:
        network_pixels(data, NETWORK_HW, limits)

    assert caught.value.reason == reason


def test_formats_are_a_setting():
    only_jpeg = ImageLimits(formats=("JPEG",))
    network_pixels(hostile_images.answered()["a JPEG"], NETWORK_HW, only_jpeg)

    with pytest.raises(UnknownFormat, match="expected JPEG bytes, or their base64 text, got PNG"):
        network_pixels(hostile_images.answered()["a PNG"], NETWORK_HW, only_jpeg)


def test_limits_are_checked_before_anything_is_decoded(monkeypatch):
    def decode(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    large = hostile_images.encoded("png", hostile_images.picture())

    with pytest.raises(BeyondLimit):
        network_pixels(large, NETWORK_HW, ImageLimits(max_pixels=100))
