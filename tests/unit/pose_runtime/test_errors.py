"""Which request an image's error belongs to, and how another library's error is told."""

import pytest

from pose_runtime.errors import BadImages, DamagedImage, first_line


def bad(*places):
    return BadImages({at: DamagedImage("a whole JPEG", f"part {at}") for at in places})


@pytest.mark.parametrize(
    ("places", "images", "told"),
    [
        ((0,), (1, 1), {0: "image: expected a whole JPEG, got part 0"}),
        ((1,), (1, 1), {1: "image: expected a whole JPEG, got part 1"}),
        ((2,), (2, 3), {1: "batch index 0 (of 0..2): image: expected a whole JPEG, got part 2"}),
        ((3, 4), (2, 3), {1: "batch index 1 (of 0..2): image: expected a whole JPEG, got part 3"}),
        ((), (2, 3), {}),
    ],
)
def test_the_first_error_of_each_request_names_its_image(places, images, told):
    assert {request: str(error) for request, error in bad(*places).by_request(images)} == told


def test_every_bad_image_of_a_batch_is_named():
    assert str(bad(0, 7)) == (
        "image 0: image: expected a whole JPEG, got part 0;"
        " image 7: image: expected a whole JPEG, got part 7"
    )


def test_of_another_librarys_error_the_first_line_is_told():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(ValueError("")) == "ValueError"
    assert first_line(ValueError("x" * 301)) == "x" * 300
