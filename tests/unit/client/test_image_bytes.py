"""RGB pixels travel as BMP or PNG, and arrive as they were."""

import numpy as np
import pytest

from bodypose_client.image_bytes import image_bytes
from pose_runtime.errors import ContractError
from pose_runtime.images import decode_image
from pose_runtime.spec import ImageLimits


@pytest.fixture(params=[(1, 1), (5, 4), (7, 5), (33, 30), (120, 163)], ids=str)
def pixels(request):
    return np.random.default_rng(0).integers(0, 256, (*request.param, 3), np.uint8)


def test_pixels_travel_as_bmp_without_loss(pixels):
    data = image_bytes(pixels, ImageLimits())
    assert data.startswith(b"BM")
    np.testing.assert_array_equal(decode_image(data, ImageLimits()), pixels)


def test_pixels_too_large_for_the_server_as_bmp_travel_as_png_without_loss(pixels):
    data = image_bytes(pixels, ImageLimits(max_bytes=40))
    assert data.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_image(data, ImageLimits()), pixels)


def test_a_smooth_picture_is_much_smaller_as_png():
    ramp = np.add.outer(np.arange(400), np.arange(600)).astype(np.uint8)
    pixels = np.stack([ramp] * 3, axis=2)
    assert len(image_bytes(pixels, ImageLimits(max_bytes=1000))) < pixels.nbytes / 20


def test_views_that_are_not_contiguous_travel_too():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 15, 3), np.uint8)[::-1, ::2, ::-1]
    for limits in (ImageLimits(), ImageLimits(max_bytes=100)):
        np.testing.assert_array_equal(
            decode_image(image_bytes(pixels, limits), ImageLimits()), pixels
        )


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), 7]
)
def test_anything_else_is_refused(image):
    with pytest.raises(ContractError, match="expected a path, bytes, a PIL image, or RGB pixels"):
        image_bytes(image, ImageLimits())
