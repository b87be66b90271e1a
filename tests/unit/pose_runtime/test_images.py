import base64
import binascii
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from pose_runtime import images
from pose_runtime.errors import DamagedImage, ImageError
from pose_runtime.image_headers import (
    EncodedImage,
    Header,
    exif_orientation,
    image_size,
    read_header,
)
from pose_runtime.images import (
    decode_image,
    letterbox_pixels,
    network_pixels,
)
from pose_runtime.letterbox import PADDING
from pose_runtime.spec import ImageLimits

LIMITS = ImageLimits()


def photo(height: int = 60, width: int = 80) -> np.ndarray:
    """RGB whose four corners differ: red, green, blue, white; smooth between."""
    corners = np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]])
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(rgb: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes()


def with_exif(jpeg: bytes, orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_formats_come_back_as_they_were(suffix):
    assert (decode_image(encoded(photo(), suffix), LIMITS) == photo()).all()


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_come_back_nearly(suffix):
    difference = decode_image(encoded(photo(), suffix), LIMITS).astype(int) - photo()
    assert np.abs(difference).mean() < 6


def test_base64_text_with_and_without_prefix_is_decoded():
    png = encoded(photo(), ".png")
    for text in (base64.b64encode(png), b"data:image/png;base64," + base64.b64encode(png)):
        assert (decode_image(text, LIMITS) == photo()).all()


@pytest.mark.parametrize("end", ["", "="])
def test_base64url_is_decoded_with_and_without_padding(end):
    jpeg = encoded(np.random.default_rng(2).integers(0, 256, (24, 24, 3), np.uint8), ".jpg")
    jpeg += bytes(-(len(jpeg) + 1) % 3)  # one letter of padding
    text = base64.urlsafe_b64encode(jpeg)
    assert {*b"-_"} & {*text}
    assert decode_image(text.rstrip(b"=") + end.encode(), LIMITS).shape == (24, 24, 3)


def test_a_text_that_is_no_image_is_refused_before_it_is_unpacked(monkeypatch):
    unpacked = []
    unpack = binascii.a2b_base64
    monkeypatch.setattr(
        binascii, "a2b_base64", lambda text, **how: unpacked.append(len(text)) or unpack(text)
    )
    with pytest.raises(ImageError, match="3000000 bytes starting with b'AA AA AA'"):
        decode_image(b"AA " * 1_000_000, LIMITS)
    assert max(unpacked) < 1000


def test_damage_that_libjpeg_tolerates_takes_one_decoding(monkeypatch):
    jpeg = encoded(photo(), ".jpg")
    calls = []
    decode = simplejpeg.decode_jpeg

    def counted(*args, **kwargs):
        calls.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    monkeypatch.setattr(cv2, "imdecode", None)
    damaged = jpeg[:-2] + b"abc" + jpeg[-2:]
    for least_hw in ((288, 384), (8, 8)):
        network_pixels(damaged, least_hw, LIMITS)
    assert (decode_image(damaged, LIMITS) == decode(jpeg, "RGB")).all()
    assert len(calls) == 3


def test_base64_in_lines_is_decoded():
    assert decode_image(base64.encodebytes(encoded(photo(), ".png")), LIMITS).shape == (60, 80, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_is_applied_as_opencv_does(orientation, order):
    jpeg = with_exif(encoded(photo(), ".jpg"), orientation, order)
    upright = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert exif_orientation(jpeg) == orientation
    ours = decode_image(jpeg, LIMITS)
    assert ours.shape == upright.shape
    assert np.abs(ours.astype(int) - upright).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_exif_orientation_of_other_formats_is_applied_as_pillow_does(suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(photo()).save(file, suffix, exif=exif, lossless=True)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert (decode_image(file.getvalue(), LIMITS) == upright).all()


def test_a_webp_with_a_damaged_exif_chunk_is_upright_or_as_it_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(photo()).save(file, "webp", exif=exif)
    webp = file.getvalue()
    size_at = webp.index(b"EXIF") + 4

    endless = webp[:size_at] + b"\xff" * 4 + webp[size_at + 4 :]
    assert read_header(endless).orientation == 6
    for end in (size_at, size_at + 2, size_at + 10, len(webp) - 8):
        assert read_header(webp[:end]).orientation == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_stored_as_long_is_applied(order):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(f"{order}IHHHIII", 8, 1, 0x0112, 4, 1, 6, 0)
    content = b"Exif\0\0" + tiff
    jpeg = encoded(photo(), ".jpg")
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]
    assert decode_image(jpeg, LIMITS).shape == (80, 60, 3)


def test_an_orientation_behind_the_pixels_of_a_png_is_applied():
    png = encoded(photo(), ".png")
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    assert decode_image(png[:-12] + chunk + png[-12:], LIMITS).shape == (80, 60, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_damaged_orientation_means_upright(orientation):
    assert exif_orientation(with_exif(encoded(photo(), ".jpg"), orientation)) == 1


def test_gray_jpegs_and_pngs_with_alpha_become_rgb():
    gray = photo()[..., 1]
    jpeg = cv2.imencode(".jpg", gray)[1].tobytes()
    decoded = decode_image(jpeg, LIMITS)
    assert decoded.shape == (60, 80, 3)
    assert (decoded[..., 0] == decoded[..., 2]).all()
    alpha = np.dstack([photo()[..., ::-1], np.full((60, 80), 128, np.uint8)])
    png = cv2.imencode(".png", alpha)[1].tobytes()
    assert (decode_image(png, LIMITS) == photo()).all()


def test_sixteen_bit_pngs_become_eight_bit():
    png = cv2.imencode(".png", photo()[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    assert (decode_image(png, LIMITS) == photo()).all()


def test_one_pixel_is_an_image():
    pixels, letterbox = letterbox_pixels(
        decode_image(encoded(photo()[:1, :1], ".png"), LIMITS), (288, 384)
    )
    assert (letterbox.scale, letterbox.offset_xy) == (288, (48, 0))
    assert (pixels[0, 48] == photo()[0, 0]).all()
    assert (pixels[:, :48] == PADDING).all()


def bomb_png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
    )


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "got no bytes"),
        (b"a plain text file, nothing else", "expected JPEG, PNG, WebP or BMP"),
        (b"GIF89a" + bytes(50), "expected JPEG, PNG, WebP or BMP"),
        (b"\xff\xd8\xff", "damaged header"),
        (b"\x89PNG\r\n\x1a\n", "damaged header"),
        (b"BM", "damaged header"),
        (b"RIFF\0\0\0\0WEBP", "damaged header"),
        (bomb_png(20_000, 20_000), r"at most 40000000 pixels \(max_pixels\), got PNG of 20000 x 2"),
        (bomb_png(0, 10), "at least 1 x 1"),
        (bomb_png(10, 10), "a whole PNG"),
        (bytes(16 * 2**20 + 1), r"at most 16777216 bytes \(max_bytes\)"),
    ],
)
def test_bad_bytes_are_refused_in_one_line(data, complaint):
    with pytest.raises(ImageError, match=complaint) as caught:
        decode_image(data, LIMITS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.98])
def test_an_image_that_ends_early_is_an_error_or_nothing_worse(suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    data = encoded(noise, suffix)
    with pytest.raises(ImageError):
        decode_image(data[: int(len(data) * share)], LIMITS)


def test_large_images_are_averaged_and_not_skipped():
    """Of four columns bilinear resampling would see the two in the middle."""
    stripes = np.zeros((1152, 1536, 3), np.uint8)
    stripes[:, 1::4] = stripes[:, 2::4] = 200
    pixels, _ = letterbox_pixels(stripes, (288, 384))
    assert np.abs(pixels.astype(int) - 100).max() <= 1


@pytest.mark.parametrize("size", [(60, 80), (480, 640), (1080, 1920), (2160, 3840), (1000, 300)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_decoded_small_is_the_whole_one_made_small(size, orientation):
    jpeg = with_exif(encoded(photo(*size), ".jpg"), orientation)
    small, letterbox = network_pixels(jpeg, (288, 384), LIMITS)
    whole, expected = letterbox_pixels(decode_image(jpeg, LIMITS), (288, 384))
    assert letterbox == expected
    assert np.abs(small.astype(int) - whole).mean() < 1


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp"])
def test_other_formats_are_placed_whole(suffix):
    data = encoded(photo(), suffix)
    small, letterbox = network_pixels(data, (288, 384), LIMITS)
    whole, expected = letterbox_pixels(decode_image(data, LIMITS), (288, 384))
    assert letterbox == expected
    assert (small == whole).all()


@pytest.mark.parametrize("hw", [(480, 640), (144, 192), (300, 500)])
def test_from_half_the_size_on_pixels_are_interpolated(hw):
    noise = np.random.default_rng(2).integers(0, 256, (*hw, 3), np.uint8)
    pixels, letterbox = letterbox_pixels(noise, (288, 384))
    height, width = letterbox.placed_hw
    x, y = letterbox.offset_xy
    expected = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    assert (pixels[y : y + height, x : x + width] == expected).all()


def test_a_decoded_image_is_the_callers_own():
    """Memory is used again only where nobody sees it."""
    first, second = (encoded(photo()[:, ::step], ".jpg") for step in (1, -1))
    image = decode_image(first, LIMITS)
    before = image.copy()
    decode_image(second, LIMITS)
    network_pixels(second, (288, 384), LIMITS)
    assert (image == before).all()


def test_what_decodes_to_another_size_than_its_header_has_is_damaged(monkeypatch):
    data = encoded(photo(), ".png")
    monkeypatch.setattr(
        images, "checked_image", lambda *_: EncodedImage(data, Header("PNG", (60, 81)), 1, True)
    )
    with pytest.raises(DamagedImage, match="PNG of 81 x 60, as its header says, got 80 x 60"):
        decode_image(data, LIMITS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_an_image_is_that_of_its_upright_pixels(orientation):
    data = with_exif(encoded(photo(), ".jpg"), orientation)
    assert image_size(data) == ((60, 80) if orientation < 5 else (80, 60))
    assert image_size(data) == decode_image(data, LIMITS).shape[:2]


def test_the_grey_around_a_picture_is_0_for_the_network():
    pixels, _ = letterbox_pixels(photo(), (60, 100))
    assert (pixels[:, :10] == 128).all()
    assert (pixels[:, 90:] == 128).all()
    assert (pixels[:, 10:90] == photo()).all()


def test_an_image_larger_than_the_threads_memory_has_its_own():
    assert images._buffer_for((1080, 1920)).size == 8 * 2**20
    assert images._buffer_for((1, 2796202)) is not None
    assert images._buffer_for((1, 2796203)) is None


@pytest.mark.parametrize(("height", "kernel"), [(120, cv2.INTER_LINEAR), (122, cv2.INTER_AREA)])
def test_below_half_the_size_pixels_are_averaged(height, kernel):
    noise = np.random.default_rng(2).integers(0, 256, (height, height, 3), np.uint8)
    expected = cv2.resize(noise, (60, 60), interpolation=kernel)
    assert (letterbox_pixels(noise, (60, 60))[0] == expected).all()


@pytest.mark.parametrize(
    ("orientation", "enough_hw", "hw"),
    [
        (1, (150, 100), (150, 200)),
        (6, (100, 150), (150, 200)),
        (1, (151, 200), (300, 400)),
        (1, (0, 0), (300, 400)),
        (1, (30, 30), (38, 50)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_up_to_half_that_is_enough(
    orientation, enough_hw, hw
):
    jpeg = encoded(photo(300, 400), ".jpg")
    header = Header("JPEG", (300, 400), orientation)
    assert images.decoded_hw(jpeg, header, enough_hw) == hw
