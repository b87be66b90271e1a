"""RGB pixels travel as BMP or PNG, and arrive as they were."""

import io

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageOps

from bodypose_client.errors import FileError, RequestRejected
from bodypose_client.image_bytes import image_bytes, read_bounded
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


def test_a_device_is_not_read():
    with pytest.raises(FileError, match="/dev/zero: expected an image file, got 'a device"):
        image_bytes("/dev/zero", ImageLimits())


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(FileError, match="got 'a folder"):
        image_bytes(tmp_path, ImageLimits())


def test_a_file_beyond_the_servers_limit_is_refused_in_its_words_without_being_read(tmp_path):
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(2**40)  # a sparse file of a terabyte

    with pytest.raises(RequestRejected, match=r"image: expected at most 100 bytes \(max_bytes\)"):
        image_bytes(path, ImageLimits(max_bytes=100))


def test_no_more_than_the_limit_is_read_from_an_open_file():
    endless = io.BytesIO(bytes(1000))

    assert read_bounded(io.BytesIO(b"abc"), 3) == b"abc"
    with pytest.raises(RequestRejected):
        read_bounded(endless, 10)
    assert endless.tell() == 11


GREY_16 = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bits_of_grey_become_8_as_in_a_png_file(mode, tmp_path):
    bytes_16 = GREY_16.astype(">u2" if mode.endswith("B") else "<u2").tobytes()
    picture = PilImage.frombytes(mode, (4, 3), bytes_16) if ";" in mode else None
    picture = picture or PilImage.fromarray(GREY_16.astype(np.int32))
    assert picture.mode == mode
    PilImage.fromarray(GREY_16).save(tmp_path / "grey.png")

    pixels = decode_image(image_bytes(picture, ImageLimits()), ImageLimits())

    of_file = decode_image((tmp_path / "grey.png").read_bytes(), ImageLimits())
    np.testing.assert_array_equal(pixels, of_file)
    assert len(np.unique(pixels)) == 12


def test_8_bits_in_a_picture_of_numbers_stay_as_they_are():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    picture = PilImage.fromarray(grey).convert("I")

    pixels = decode_image(image_bytes(picture, ImageLimits()), ImageLimits())

    np.testing.assert_array_equal(pixels[..., 0], grey)


@pytest.mark.parametrize("numbers", [np.float32([[0.5]]), np.int32([[-1]]), np.int32([[70000]])])
def test_numbers_that_are_no_grey_are_refused(numbers):
    with pytest.raises(ContractError, match="a PIL image of 8 bits a channel, or of 16"):
        image_bytes(PilImage.fromarray(numbers), ImageLimits())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_other_mode_is_pillows_rgb(mode):
    colours = np.random.default_rng(2).integers(0, 256, (6, 5, 3), np.uint8)
    picture = PilImage.fromarray(colours).convert(mode)

    pixels = decode_image(image_bytes(picture, ImageLimits()), ImageLimits())

    np.testing.assert_array_equal(pixels, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_as_upright_as_its_file(orientation, tmp_path):
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    colours = np.random.default_rng(3).integers(0, 256, (7, 5, 3), np.uint8)
    PilImage.fromarray(colours).save(tmp_path / "photo.png", exif=exif)
    of_file = decode_image((tmp_path / "photo.png").read_bytes(), ImageLimits())

    with PilImage.open(tmp_path / "photo.png") as picture:
        pixels = decode_image(image_bytes(picture, ImageLimits()), ImageLimits())
        turned = ImageOps.exif_transpose(picture)
    again = decode_image(image_bytes(turned, ImageLimits()), ImageLimits())

    np.testing.assert_array_equal(pixels, of_file)
    np.testing.assert_array_equal(again, of_file)  # not turned twice
