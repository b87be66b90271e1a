import io
import json

import numpy as np
import pytest
from PIL import Image

from bodypose_client.errors import AnnotationError
from bodypose_client.image_check import check_split, image_problem


@pytest.fixture
def picture():
    """Encoded bytes of noise, 120 high and 160 wide."""
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)

    def encoded(image_format: str, **options) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, image_format, **options)
        return file.getvalue()

    return encoded


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("decode", [False, True])
def test_a_whole_image_of_its_size_has_no_problem(tmp_path, picture, image_format, decode):
    (tmp_path / "1.jpg").write_bytes(picture(image_format))
    assert image_problem(tmp_path / "1.jpg", (120, 160), decode=decode) == ""


def test_width_and_height_in_each_others_place_are_named(tmp_path, picture):
    (tmp_path / "1.jpg").write_bytes(picture("JPEG"))
    problem = image_problem(tmp_path / "1.jpg", (160, 120))
    assert problem.startswith("expected width 160 and height 120, as in the file, got 120 and 160")
    assert problem.endswith("they are swapped")
    assert "swapped" not in image_problem(tmp_path / "1.jpg", (120, 161))


def test_the_size_is_that_of_the_upright_image(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "1.jpg").write_bytes(picture("JPEG", exif=exif))
    assert image_problem(tmp_path / "1.jpg", (160, 120)) == ""


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_a_cut_image_is_found_without_decoding_the_whole_ones(tmp_path, picture, image_format):
    whole = picture(image_format)
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])
    assert image_problem(tmp_path / "1.jpg", (120, 160))


def test_a_gif_named_jpg_is_found(tmp_path, picture):
    (tmp_path / "1.jpg").write_bytes(picture("GIF"))
    assert "JPEG" in image_problem(tmp_path / "1.jpg", (120, 160))


def test_damage_within_is_found_when_the_image_is_decoded(tmp_path, picture):
    whole = picture("PNG")
    centre = len(whole) // 2
    (tmp_path / "1.png").write_bytes(whole[:centre] + bytes(20_000) + whole[centre + 20_000 :])
    assert image_problem(tmp_path / "1.png", (120, 160)) == ""
    assert image_problem(tmp_path / "1.png", (120, 160), decode=True)


def test_a_file_that_cannot_be_opened_is_a_problem(tmp_path):
    assert "No such file" in image_problem(tmp_path / "1.jpg", None)


def test_a_split_is_refused_with_how_many_images_and_the_first(tmp_path, picture):
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (tmp_path / name).write_bytes(picture("JPEG"))
    damaged = bytearray(picture("PNG"))
    damaged[2000:9000] = bytes(7000)
    (tmp_path / "2.jpg").write_bytes(damaged)
    (tmp_path / "3.jpg").write_bytes(picture("JPEG")[:3000])
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "height": 120, "width": 160}
            for number in (1, 2, 3)
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [5, 5, 2] * 17,
             "num_keypoints": 17, "bbox": [0, 0, 9, 9], "area": 81}
        ],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip
    annotations = tmp_path / "people.json"
    annotations.write_text(json.dumps(content))

    with pytest.raises(AnnotationError, match=r"got 1 that cannot; first image 3 \("):
        check_split(annotations, tmp_path)
    check_split(annotations, tmp_path, limit=2)
    with pytest.raises(AnnotationError, match=r"got 2 that cannot; first image 2 \("):
        check_split(annotations, tmp_path, decode=True)
