import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose_runtime.errors import ContractError
from pose_runtime.letterbox import Letterbox

SIDES = st.integers(1, 5000)


def test_image_corners_touch_the_network_border():
    letterbox = Letterbox.fit((480, 640), network_hw=(256, 192))
    corners = np.float32([[0, 0], [640, 480]])
    assert letterbox.to_network(corners).tolist() == [[0, 56], [192, 200]]


@given(height=SIDES, width=SIDES)
def test_to_image_undoes_to_network(height, width):
    letterbox = Letterbox.fit((height, width), (288, 384))
    points = np.float32([[0, 0], [0.5, 0.5], [width / 3, height / 7], [width, height]])
    back = letterbox.to_image(letterbox.to_network(points))
    assert np.allclose(back, points, atol=max(height, width) * 1e-5)


@given(height=SIDES, width=SIDES)
def test_the_placed_image_lies_inside_and_touches_one_pair_of_sides(height, width):
    letterbox = Letterbox.fit((height, width), (288, 384))
    placed_h, placed_w = letterbox.placed_hw
    x, y = letterbox.offset_xy
    assert 0 <= x <= x + placed_w <= 384
    assert 0 <= y <= y + placed_h <= 288
    assert placed_h == 288 or placed_w == 384


@given(height=SIDES, width=SIDES)
def test_geometry_carries_a_letterbox_across_the_wire(height, width):
    sent = Letterbox.fit((height, width), (288, 384))
    got = Letterbox.from_geometry(sent.to_geometry())
    assert (got.image_hw, got.offset_xy) == (sent.image_hw, sent.offset_xy)
    assert got.scale == pytest.approx(sent.scale, rel=1e-6)


@pytest.mark.parametrize(
    "geometry", [[1, 1, 0, 0, 0], [1, 1, np.nan, 0, 0], [1, 1, -2, 0, 0], [1, 1, 1, 0]]
)
def test_no_letterbox_has_such_a_geometry(geometry):
    with pytest.raises(ContractError, match="geometry: expected"):
        Letterbox.from_geometry(np.float32(geometry))


def test_odd_rests_lie_at_the_end():
    letterbox = Letterbox.fit((10, 7), (20, 19))
    assert (letterbox.scale, letterbox.placed_hw, letterbox.offset_xy) == (2, (20, 14), (2, 0))
    letterbox = Letterbox.fit((7, 10), (19, 20))
    assert (letterbox.placed_hw, letterbox.offset_xy) == ((14, 20), (0, 2))


def test_the_thinnest_picture_has_a_pixel():
    assert Letterbox.fit((1, 5000), (288, 384)).placed_hw == (1, 384)
    assert Letterbox.fit((5000, 1), (288, 384)).placed_hw == (288, 1)


def test_geometry_is_height_width_scale_and_offsets():
    geometry = Letterbox.fit((100, 50), (64, 64)).to_geometry()
    assert geometry.tolist() == pytest.approx([100, 50, 0.64, 16, 0])
    tiny = np.float32([1, 2, 0.001, 3, 4])
    assert Letterbox.from_geometry(tiny) == Letterbox((1, 2), pytest.approx(0.001), (3, 4))
