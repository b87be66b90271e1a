"""Drawn people in a picture: the same each time, hidden where something stands before them."""

import numpy as np
import pytest

from bodypose_tools.scenes.backdrops import hall, park
from bodypose_tools.scenes.body import Body, Look
from bodypose_tools.scenes.picture import Camera, draw_people

CAMERA = Camera((96, 80), 90, 1.0, 0)
NOSE, LEFT_SHOULDER = 0, 5


def flat(view):
    """A white ground under a black sky."""
    return np.repeat(view.is_ground[..., None].astype(np.float32), 3, axis=-1)


def drawn(*bodies, backdrop=flat, seed=0):
    return draw_people(bodies, CAMERA, backdrop, seed=seed, fineness=1)


@pytest.mark.parametrize("backdrop", [park, hall])
def test_the_same_arguments_give_the_same_picture_and_another_seed_another(backdrop):
    first, again = (drawn(Body((0, -4)), backdrop=backdrop) for _ in range(2))
    assert first.pixels.shape == (80, 96, 3)
    assert first.pixels.std() > 10
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, drawn(backdrop=backdrop, seed=1).pixels)


def test_keypoints_lie_on_the_person_and_are_seen():
    picture = drawn(Body((0, -4), look=Look(shirt=(255, 0, 0))))
    (joints,) = picture.keypoints
    assert (joints[:, 2] == 2).all()
    x, y = joints[[5, 6, 11, 12], :2].mean(axis=0).astype(int)
    red, green, blue = picture.pixels[y, x].astype(int)
    assert red > green + 60
    assert red > blue + 60
    assert picture.areas[0] > 200


def test_a_person_behind_another_is_hidden_whoever_is_drawn_first():
    front, behind = Body((0, -3)), Body((0.02, -6), height_m=1.6)
    for bodies in ((front, behind), (behind, front)):
        picture = drawn(*bodies)
        hidden = picture.keypoints[bodies.index(behind)]
        assert (picture.keypoints[bodies.index(front), :, 2] == 2).all()
        assert (hidden[:, 2] == 1).mean() > 0.7


def test_a_joint_outside_of_the_picture_has_no_place():
    (joints,) = drawn(Body((2.1, -4))).keypoints
    outside = joints[:, 2] == 0
    assert outside.any()
    assert not outside.all()
    assert (joints[outside] == 0).all()


def test_the_far_shoulder_of_a_person_seen_from_the_side_is_hidden():
    (joints,) = drawn(Body((0, -4), yaw_deg=90)).keypoints
    assert joints[5:7, 2].tolist() in ([2, 1], [1, 2])


def test_a_person_casts_a_shadow_on_the_ground():
    empty, stood_on = (drawn(*bodies).pixels.astype(int) for bodies in ((), (Body((0, -4)),)))
    darker = (empty - stood_on).min(axis=2) > 60
    rows, columns = np.nonzero(darker)
    left_of_everything = drawn(Body((0, -4))).keypoints[0, :, 0].min() - 3
    assert (columns < left_of_everything).any()  # away from the sun
    assert (rows > 45).all() or (rows > 40).mean() > 0.9
