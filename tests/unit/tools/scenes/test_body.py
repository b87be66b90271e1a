"""A drawn person's body: where its joints and its surface are."""

import numpy as np
import pytest

from bodypose_tools.scenes.body import Body, Hair, Look
from bodypose_tools.scenes.stances import STANCES
from pose_runtime.skeleton import BODYPOSE_18

NAMES = BODYPOSE_18.annotated_joints
WHITE, RED = (255, 255, 255), (255, 0, 0)


def joint(body, name):
    return body.keypoints()[NAMES.index(name)]


@pytest.mark.parametrize("stance", STANCES)
def test_feet_stand_on_the_ground_or_as_high_above_it_as_the_stance_tells(stance):
    body = Body((0, -5), STANCES[stance])
    assert body.low[1] == pytest.approx(STANCES[stance]["air"], abs=0.05)


@pytest.mark.parametrize("stance", STANCES)
def test_joints_lie_inside_the_body_or_on_its_surface(stance):
    assert (
        Body((0, -5), STANCES[stance]).distance(Body((0, -5), STANCES[stance]).keypoints()) < 0.02
    ).all()


def test_a_body_that_faces_the_camera_has_its_left_on_the_right():
    body = Body((0, -5))
    assert joint(body, "left_shoulder")[0] > joint(body, "right_shoulder")[0]
    assert joint(body, "nose")[2] > joint(body, "left_ear")[2]


def test_a_body_turned_around_has_its_left_on_the_left():
    body = Body((0, -5), yaw_deg=180)
    assert joint(body, "left_shoulder")[0] < joint(body, "right_shoulder")[0]


def test_the_distance_grows_away_from_the_body_and_is_negative_inside():
    body = Body((0, -5))
    chest = np.float32([[0, 1.2, -5]])
    steps = [body.distance(chest + np.float32([0, 0, away]))[0] for away in (0, 0.5, 2)]
    assert steps[0] < 0 < steps[1] < steps[2]
    assert steps[2] - steps[1] == pytest.approx(1.5, abs=0.1)


def test_many_points_have_the_distances_of_few():
    body = Body((0, -5))
    points = np.random.default_rng(0).uniform(body.low, body.high, (20_000, 3)).astype(np.float32)
    assert np.array_equal(body.distance(points)[9_000:9_010], body.distance(points[9_000:9_010]))


def colour_at(body, place):
    points = np.float32([place])
    return body.colours(points, body.nearest(points))[0].tolist()


def test_each_part_has_the_colour_of_the_look():
    body = Body((0, -5), look=Look(shirt=RED, trousers=WHITE))
    assert colour_at(body, [0, 1.25, -4.9]) == list(RED)
    assert colour_at(body, joint(body, "left_knee")) == list(WHITE)


def test_stripes_are_on_the_shirt_only():
    body = Body((0, -5), look=Look(shirt=RED, trousers=RED, stripes=WHITE))
    heights = np.linspace(0.2, 1.4, 60)
    shirt = {tuple(colour_at(body, [0.05, y, -4.9])) for y in heights if y > 1.15}
    trousers = {tuple(colour_at(body, [0.1, y, -4.9])) for y in heights if y < 0.8}
    assert shirt == {RED, WHITE}
    assert WHITE not in trousers


@pytest.mark.parametrize("hairstyle", Hair)
def test_hair_covers_the_back_of_the_head_and_leaves_the_face(hairstyle):
    look = Look(hair=(1, 2, 3), hairstyle=hairstyle)
    body = Body((0, -5), look=look)
    back = joint(body, "nose") * [1, 1, 0] + [0, 0.05, -5.13]
    assert colour_at(body, back) == [1, 2, 3]
    assert colour_at(body, joint(body, "nose") + np.float32([0, 0, 0.01])) == list(look.skin)
