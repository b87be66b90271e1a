from dataclasses import replace

import numpy as np
import pytest

from bodypose_client.pictures.drawing import draw_poses, limbs_to_draw
from bodypose_client.pictures.sides import Side, joint_sides
from pose_runtime.poses import Poses
from pose_runtime.skeleton import BODYPOSE_18 as BODY

GREY = 100


def standing(height, width, score=0.9):
    """One person of about 80 % of the image's height; joints at plausible places."""
    places = {
        "nose": (0.5, 0.15),
        "neck": (0.5, 0.25),
        "shoulder": (0.1, 0.26),
        "elbow": (0.15, 0.4),
        "wrist": (0.17, 0.52),
        "hip": (0.07, 0.52),
        "knee": (0.08, 0.7),
        "ankle": (0.08, 0.88),
        "eye": (0.02, 0.13),
        "ear": (0.04, 0.14),
    }
    keypoints = np.zeros((1, BODY.num_joints, 3), np.float32)
    for joint, name in enumerate(BODY.joints):
        part = name.split("_")[-1]
        x, y = places[part]
        if name.startswith("left"):
            x += 0.5
        elif name.startswith("right"):
            x = 0.5 - x
        keypoints[0, joint] = (x * width, y * height, score)
    return Poses(keypoints, np.float32([score]))


def grey(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def at(image, xy):
    x, y = np.floor(xy).astype(int)
    return image[y, x].astype(int)


def test_pixels_change_at_joints_and_not_far_from_the_person():
    image = grey(200, 400)
    poses = standing(200, 100)

    drawn = draw_poses(image, poses, BODY)

    for joint in poses.keypoints[0]:
        assert abs(at(drawn, joint[:2]) - GREY).max() > 20
    assert (drawn[:, 130:] == GREY).all()


def test_joints_that_are_only_expected_are_not_drawn():
    poses = standing(200, 100)
    wrist = BODY.joints.index("left_wrist")
    place = poses.keypoints[0, wrist, :2]

    poses.keypoints[0, wrist, 2] = 0.2
    drawn = draw_poses(grey(200, 100), poses, BODY)
    poses.keypoints[0, wrist, 2] = 0.19
    without = draw_poses(grey(200, 100), poses, BODY)

    assert abs(at(drawn, place) - GREY).max() > 20
    assert (at(without, place) == GREY).all()


def test_the_image_itself_is_not_changed():
    image = grey(100, 100)

    drawn = draw_poses(image, standing(100, 100), BODY)

    assert (image == GREY).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_nobody_found_gives_an_equal_copy():
    image = grey(50, 60)

    drawn = draw_poses(image, Poses.empty(BODY.num_joints), BODY)

    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_people_below_min_score_are_left_out():
    image, poses = grey(100, 100), standing(100, 100, score=0.4)

    assert (draw_poses(image, poses, BODY, min_score=0.5) == GREY).all()
    assert (draw_poses(image, poses, BODY, min_score=0.4) != GREY).any()


def test_limbs_have_the_colour_of_their_side():
    image, poses = grey(400, 400), standing(400, 400)
    drawn = draw_poses(image, poses, BODY)

    for side, (first, second) in {
        Side.LEFT: ("left_knee", "left_ankle"),
        Side.RIGHT: ("right_knee", "right_ankle"),
        Side.CENTRE: ("nose", "neck"),
    }.items():
        ends = [poses.keypoints[0, BODY.joints.index(name), :2] for name in (first, second)]
        middle = at(drawn, np.mean(ends, axis=0))
        assert abs(middle - side.value).max() <= 3


def test_an_unsure_person_is_fainter():
    image = grey(400, 400)
    knee, ankle = (
        standing(400, 400).keypoints[0, BODY.joints.index(f"left_{part}"), :2]
        for part in ("knee", "ankle")
    )
    change = [
        abs(at(draw_poses(image, standing(400, 400, score), BODY), (knee + ankle) / 2) - GREY).sum()
        for score in (0.9, 0.3)
    ]

    assert change[0] > 1.2 * change[1] > 0


@pytest.mark.parametrize("side", [100, 4000])
def test_lines_grow_with_the_picture(side):
    drawn = draw_poses(grey(side, side), standing(side, side), BODY)

    changed = (drawn != GREY).any(axis=2).mean()
    assert 0.01 < changed < 0.15


def test_the_best_person_is_on_top():
    image = grey(400, 400)
    both = standing(400, 400).keypoints.repeat(2, axis=0)
    mirrored = both.copy()
    mirrored[1] = both[1][list(BODY.mirror)]
    poses = Poses(mirrored, np.float32([0.9, 0.5]))

    drawn = draw_poses(image, poses, BODY)

    knee, ankle = (both[0, BODY.joints.index(f"left_{part}"), :2] for part in ("knee", "ankle"))
    assert abs(at(drawn, (knee + ankle) / 2) - Side.LEFT.value).max() <= 3


def test_people_across_the_border_are_cut_off():
    image, poses = grey(100, 100), standing(100, 100)
    for offset in (-80, 80, 500):
        moved = poses.keypoints.copy()
        moved[..., :2] += offset
        drawn = draw_poses(image, Poses(moved, poses.scores), BODY)
        assert drawn.shape == image.shape


def test_a_single_joint_in_a_single_pixel_is_drawn():
    keypoints = np.zeros((1, BODY.num_joints, 3), np.float32)
    keypoints[0, 0] = (0.5, 0.5, 1)

    drawn = draw_poses(grey(1, 1), Poses(keypoints, np.float32([1])), BODY)

    assert (drawn != GREY).any()


def test_a_person_without_joints_is_nothing():
    poses = Poses(np.zeros((1, BODY.num_joints, 3), np.float32), np.float32([1]))

    assert (draw_poses(grey(9, 9), poses, BODY) == GREY).all()


def test_ears_are_joined_to_shoulders_only_from_behind():
    keypoints = standing(200, 100).keypoints[0]
    shoulder_to_ear = (BODY.joints.index("left_shoulder"), BODY.joints.index("left_ear"))
    assert shoulder_to_ear not in limbs_to_draw(keypoints, BODY)
    assert len(limbs_to_draw(keypoints, BODY)) == BODY.num_limbs - 2

    from_behind = keypoints.copy()
    for name in ("nose", "left_eye", "right_eye"):
        from_behind[BODY.joints.index(name)] = 0
    assert shoulder_to_ear in limbs_to_draw(from_behind, BODY)


def test_sides_come_from_names_or_from_the_order_of_a_pair():
    sides = dict(zip(BODY.joints, joint_sides(BODY), strict=True))
    assert sides["neck"] is Side.CENTRE
    assert sides["left_ear"] is Side.LEFT
    assert sides["right_hip"] is Side.RIGHT

    nameless = replace(BODY, joints=tuple(f"joint{number}" for number in range(18)))
    assert joint_sides(nameless)[2] is Side.LEFT
    assert joint_sides(nameless)[5] is Side.RIGHT
