import numpy as np
import pytest

from bodypose_client.video.tracking import Matching, Tracker
from pose_runtime.poses import Poses
from pose_runtime.skeleton import BODYPOSE_18

# A person of 40 x 100 pixels around (0, 0).
STANDING = np.stack(
    [np.linspace(-20, 20, 18), np.linspace(-50, 50, 18)[::-1].copy(), np.full(18, 0.8)], axis=1
).astype(np.float32)


def people(*centres):
    """One standing person at each (x, y), the surest first."""
    keypoints = np.stack([STANDING + np.float32([x, y, 0]) for x, y in centres]).astype(np.float32)
    return Poses(keypoints, np.linspace(0.9, 0.5, len(centres)).astype(np.float32))


NOBODY = Poses.empty(18)


@pytest.fixture
def tracker():
    return Tracker(BODYPOSE_18.sigmas)


def test_ids_begin_at_one_in_the_order_of_scores(tracker):
    assert tracker.update(people((100, 100), (300, 100)), 0.0) == [1, 2]


def test_ids_follow_people_whatever_their_order_in_a_frame(tracker):
    tracker.update(people((100, 100), (300, 100)), 0.0)

    assert tracker.update(people((303, 101), (98, 100)), 0.04) == [2, 1]


def test_people_who_pass_each_other_keep_their_ids(tracker):
    for step in range(61):
        left, right = (100 + 4 * step, 100), (340 - 4 * step, 130)  # farther back
        frame = people(right, left) if step % 2 else people(left, right)

        assert tracker.update(frame, step / 25) == ([2, 1] if step % 2 else [1, 2])


def test_a_newcomer_gets_the_next_id(tracker):
    tracker.update(people((100, 100)), 0.0)

    assert tracker.update(people((500, 100), (101, 100)), 0.04) == [2, 1]


def test_a_person_hidden_for_a_moment_is_the_same(tracker):
    tracker.update(people((100, 100)), 0.0)
    for step in range(1, 20):
        assert tracker.update(NOBODY, step / 25) == []

    assert tracker.update(people((104, 100)), 0.8) == [1]


def test_an_id_is_never_given_twice(tracker):
    tracker.update(people((100, 100)), 0.0)

    assert tracker.update(people((100, 100)), 1.5) == [2]
    assert tracker.update(people((100, 100), (400, 100)), 1.6) == [2, 3]


def test_missing_joints_do_not_matter(tracker):
    tracker.update(people((100, 100)), 0.0)
    half = people((102, 100))
    half.keypoints[0, ::2] = 0

    assert tracker.update(half, 0.04) == [1]


def test_two_joints_in_common_say_too_little(tracker):
    upper, lower = people((100, 100)), people((100, 100))
    upper.keypoints[0, 10:] = 0
    lower.keypoints[0, :8] = 0
    tracker.update(upper, 0.0)

    assert tracker.update(lower, 0.04) == [2]


def test_people_of_a_single_joint_are_followed(tracker):
    nose = people((100, 100))
    nose.keypoints[0, 1:] = 0
    tracker.update(nose, 0.0)

    assert tracker.update(nose, 0.04) == [1]


def test_of_equal_pairs_the_older_track_and_the_surer_person_match():
    tracker = Tracker(BODYPOSE_18.sigmas, Matching(min_oks=0.01))
    tracker.update(people((95, 100), (105, 100)), 0.0)

    assert tracker.update(people((100, 100), (100, 100)), 0.04) == [1, 2]


def test_the_same_frames_give_the_same_ids():
    random = np.random.default_rng(5)
    frames = [people(*random.uniform(0, 400, (6, 2))) for _ in range(30)]

    def ids():
        tracker = Tracker(BODYPOSE_18.sigmas)
        return [tracker.update(frame, number / 25) for number, frame in enumerate(frames)]

    assert ids() == ids()


def test_tracking_does_not_change_the_people(tracker):
    frame = people((100, 100))
    before = frame.keypoints.copy()

    tracker.update(frame, 0.0)
    tracker.update(people((102, 100)), 0.04)

    assert np.array_equal(frame.keypoints, before)
