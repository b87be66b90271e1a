import numpy as np
import pytest

from bodypose_client.pictures.boxes import draw_boxes
from pose_runtime.poses import Poses

GREY = 100


def two_people(scores=(0.9, 0.4)):
    keypoints = np.zeros((2, 2, 3), np.float32)
    keypoints[0] = [[40, 60, 1], [80, 160, 1]]
    keypoints[1] = [[140, 60, 1], [180, 160, 1]]
    return Poses(keypoints, np.float32(scores))


def test_boxes_surround_the_joints_and_leave_the_inside_alone():
    image = np.full((200, 300, 3), GREY, np.uint8)

    drawn = draw_boxes(image, two_people())

    for left, right in ((40, 80), (140, 180)):
        assert (drawn[62:158, left + 2 : right - 2] == GREY).all()
        assert (drawn[100, left - 15 : left] != GREY).any()
        assert (drawn[100, right : right + 15] != GREY).any()
    assert (image == GREY).all()


def test_people_below_min_score_have_no_box():
    image = np.full((200, 300, 3), GREY, np.uint8)

    drawn = draw_boxes(image, two_people(), min_score=0.5)

    assert (drawn[:, :110] != GREY).any()
    assert (drawn[:, 120:] == GREY).all()


def test_nobody_found_gives_an_equal_copy():
    image = np.full((20, 30, 3), GREY, np.uint8)

    drawn = draw_boxes(image, Poses.empty(2))

    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


@pytest.mark.parametrize("side", [1, 8, 100])
def test_tiny_images_are_no_problem(side):
    keypoints = np.float32([[[0.5, 0.5, 1], [side - 0.5, side - 0.5, 1]]])

    drawn = draw_boxes(np.full((side, side, 3), GREY, np.uint8), Poses(keypoints, np.float32([1])))

    assert drawn.shape == (side, side, 3)
