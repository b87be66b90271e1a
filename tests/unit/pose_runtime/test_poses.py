import numpy as np
import pytest

from pose_runtime.errors import ContractError
from pose_runtime.poses import FOUND_JOINT_SCORE, Poses, pack_poses, unpack_poses


def three_people() -> Poses:
    keypoints = np.zeros((3, 2, 3), np.float32)
    keypoints[0] = [[10, 20, 0.9], [30, 60, 0.8]]
    keypoints[1] = [[5, 5, 0.5], [0, 0, 0]]
    return Poses(keypoints, np.float32([0.9, 0.4, 0.1]))


def test_boxes_go_around_the_joints_that_were_found():
    assert three_people().boxes.tolist() == [[10, 20, 20, 40], [5, 5, 0, 0], [0, 0, 0, 0]]


def test_nobody_has_no_boxes():
    assert Poses.empty(18).boxes.shape == (0, 4)


def test_found_joints_are_counted():
    assert three_people().num_keypoints.tolist() == [2, 1, 0]


def test_a_guess_is_in_no_count_and_no_box():
    people = three_people()
    people.keypoints[0, 1, 2] = np.nextafter(np.float32(FOUND_JOINT_SCORE), np.float32(0))
    people.keypoints[1, 0, 2] = FOUND_JOINT_SCORE

    assert people.num_keypoints.tolist() == [1, 1, 0]
    assert people.boxes.tolist() == [[10, 20, 0, 0], [5, 5, 0, 0], [0, 0, 0, 0]]
    assert people.found_only().keypoints[0].tolist() == [[10, 20, np.float32(0.9)], [0, 0, 0]]


def test_corners_and_boxes_are_the_same_rectangle():
    assert three_people().corners.tolist() == [[10, 20, 30, 60], [5, 5, 5, 5], [0, 0, 0, 0]]


def test_above_keeps_the_best():
    assert len(three_people().above(0.4)) == 2


@pytest.mark.parametrize("max_people", [3, 5])
def test_unpack_undoes_pack(max_people):
    people = three_people()
    keypoints, scores, num_people = pack_poses(people, max_people)
    assert keypoints.shape == (max_people, 2, 3)
    got = unpack_poses(keypoints, scores, num_people)
    assert (got.keypoints == people.keypoints).all()
    assert (got.scores == people.scores).all()


def test_more_people_than_rows_keeps_the_best():
    keypoints, scores, num_people = pack_poses(three_people(), 2)
    assert (len(keypoints), scores.tolist(), num_people.tolist()) == (
        2,
        np.float32([0.9, 0.4]).tolist(),
        [2],
    )


def test_a_count_beyond_the_rows_is_refused():
    with pytest.raises(ContractError, match=r"num_people: expected 0\.\.1, got 2"):
        unpack_poses(np.zeros((1, 2, 3), np.float32), np.zeros(1, np.float32), np.int32([2]))


def test_repr_says_the_size_and_not_the_contents():
    assert repr(three_people()) == "Poses(n=3, joints=2)"


@pytest.mark.parametrize(("keypoints", "scores"), [((2, 3), 2), ((2, 18, 2), 2), ((2, 18, 3), 1)])
def test_wrong_shapes_are_refused(keypoints, scores):
    with pytest.raises(ContractError):
        Poses(np.zeros(keypoints, np.float32), np.zeros(scores, np.float32))


def test_a_joint_is_found_from_a_fifth_on():
    people = three_people()
    people.keypoints[0, :, 2] = 0.2, 0.19
    assert people.found[0].tolist() == [True, False]


def test_a_negative_place_has_corners_too():
    keypoints = np.float32([[[-5, -7, 0.9], [-2, -3, 0.9], [0, 0, 0]]])
    poses = Poses(keypoints, np.float32([0.9]))
    assert poses.corners.tolist() == [[-5, -7, -2, -3]]
    assert poses.boxes.tolist() == [[-5, -7, 3, 4]]


def test_padding_is_zero_and_a_count_of_nobody_is_one():
    keypoints, scores, num_people = pack_poses(three_people(), 5)
    assert not keypoints[3:].any()
    assert not scores[3:].any()
    assert num_people.dtype == np.int32
    assert len(unpack_poses(keypoints, scores, np.int32([0]))) == 0
    assert len(unpack_poses(keypoints, scores, np.int32([5]))) == 5
    with pytest.raises(ContractError, match=r"num_people: expected 0\.\.5, got -1"):
        unpack_poses(keypoints, scores, np.int32([-1]))


def test_a_wrong_side_is_named():
    with pytest.raises(ContractError, match=r"keypoints: expected \(N, J, 3\), got \(2, 18, 2\)"):
        Poses(np.zeros((2, 18, 2), np.float32), np.zeros(2, np.float32))
    with pytest.raises(ContractError, match=r"scores: expected \(2,\), got \(2, 1\)"):
        Poses(np.zeros((2, 18, 3), np.float32), np.zeros((2, 1), np.float32))
