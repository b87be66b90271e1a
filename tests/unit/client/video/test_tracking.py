import math

import numpy as np
import pytest

from bodypose_client.video.tracking import Matching, Tracker
from pose_runtime.poses import Poses
from pose_runtime.skeleton import BODYPOSE_18
from tests.idf1 import idf1

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


def seen(centre, size, random, *, score=0.6, jitter=0.02):
    """A person of that many pixels, as a network finds a small one: joints tremble, some miss."""
    keypoints = STANDING.copy()
    keypoints[:, :2] *= size / 100
    keypoints[:, :2] += centre + random.normal(0, jitter * size, (18, 2))
    keypoints[random.random(18) < 0.25] = 0
    return keypoints, score


def ids_along(frames, fps=25):
    """Pairs of the true and the given id: `frames` hold each person's keypoints and score."""
    tracker, pairs = Tracker(BODYPOSE_18.sigmas), []
    for number, frame in enumerate(frames):
        order = sorted(range(len(frame)), key=lambda person: -frame[person][1])
        poses = Poses(
            np.stack([frame[person][0] for person in order]).astype(np.float32),
            np.float32([frame[person][1] for person in order]),
        )
        pairs += zip(order, tracker.update(poses, number / fps), strict=True)
    return pairs


def test_idf1_knows_a_lost_id():
    assert idf1([("a", 1)] * 10 + [("b", 2)] * 10) == 1
    assert idf1([("a", 1)] * 5 + [("a", 2)] * 5) == pytest.approx(0.5)
    assert idf1([("a", 1), ("b", 2), ("a", 2), ("b", 1)]) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [24, 40, 80])
@pytest.mark.parametrize("pixels_a_frame", [0.5, 2, 5])
def test_a_small_person_keeps_its_id_in_a_pan(size, pixels_a_frame):
    """The camera starts to turn after ten frames; three people stand 60 pixels apart."""
    random, frames = np.random.default_rng(3), []
    for number in range(60):
        shift = max(0, number - 10) * pixels_a_frame
        places = [(400 + 60 * person - shift, 100) for person in range(3)]
        frames.append([seen(place, size, random) for place in places])

    assert idf1(ids_along(frames)) == 1


def test_a_person_that_fades_keeps_its_id():
    """Its score goes below the threshold every other half second."""
    random = np.random.default_rng(4)
    frames = [
        [
            seen((100 + 2 * number, 100), 40, random, score=0.15 if number // 30 % 2 else 0.4),
            seen((100 + 2 * number, 200), 40, random),
        ]
        for number in range(180)
    ]

    assert idf1(ids_along(frames)) == 1


def test_an_unsure_person_gets_no_id_of_its_own():
    random = np.random.default_rng(4)
    unsure = seen((100, 100), 60, random, score=0.1)

    assert {given for _, given in ids_along([[unsure]] * 5)} == {0}


def test_an_unsure_ghost_does_not_take_the_id_of_the_person_beside_it(tracker):
    frame = people((100, 100), (104, 100))
    frame.scores[1] = 0.1
    tracker.update(people((104, 100)), 0.0)

    assert tracker.update(frame, 0.04) == [1, 0]


def test_a_newcomer_moves_with_the_camera(tracker):
    """Ten pixels a frame are more than a person of 30 pixels could walk."""
    random, given = np.random.default_rng(8), []
    for number in range(20):
        frame = [seen((200 + 10 * number, 100), 120, random)]
        if number >= 10:
            frame.append(seen((20 + 10 * (number - 10), 200), 30, random, jitter=0.01))
        given.append([pair[1] for pair in ids_along_one(tracker, frame, number)])

    assert [ids[1] for ids in given[10:]] == [2] * 10


def ids_along_one(tracker, frame, number):
    poses = Poses(
        np.stack([keypoints for keypoints, _ in frame]).astype(np.float32),
        np.float32([score for _, score in frame]),
    )
    return list(enumerate(tracker.update(poses, number / 25)))


def test_the_most_alike_are_paired_first(tracker):
    """The first is near both tracks, and much nearer to the second."""
    tracker.update(people((100, 100), (120, 100)), 0.0)

    assert tracker.update(people((118, 100), (92, 100)), 0.04) == [2, 1]


NOTHING_UNFORESEEN = {"unforeseen": 0.0, "unforeseen_of_new": 0.0, "jerk": 0.0}


def oks_of(before, now):
    """The definition, joint by joint: the area is the mean of both boxes, k twice the sigma."""
    boxes = [np.ptp(joints[:, :2], axis=0) for joints in (before, now)]
    area = sum(float(width * height) for width, height in boxes) / 2
    above = below = 0.0
    for (x, y, score), (to_x, to_y, to_score), sigma in zip(
        before, now, BODYPOSE_18.sigmas, strict=True
    ):
        weight = math.sqrt(score * to_score)
        distance = (x - to_x) ** 2 + (y - to_y) ** 2
        above += weight * math.exp(-distance / (2 * area * (2 * sigma) ** 2))
        below += weight
    return above / below


@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_people_are_as_alike_as_their_oks(scale):
    before, now = STANDING.copy(), STANDING.copy()
    before[:, 2] = np.linspace(0.2, 0.9, 18)
    now[:, :2] = now[:, :2] * scale + (3, -2)
    oks = oks_of(before, now)
    assert 0.3 < oks < 0.9

    for least, ids in ((oks - 0.005, [1]), (oks + 0.005, [2])):
        matching = Matching(min_oks=least, **NOTHING_UNFORESEEN)
        tracker = Tracker(BODYPOSE_18.sigmas, matching)
        tracker.update(Poses(before[None] + np.float32([200, 200, 0]), np.float32([0.9])), 0.0)
        moved = Poses(now[None] + np.float32([200, 200, 0]), np.float32([0.9]))
        assert tracker.update(moved, 0.04) == ids


def test_a_second_is_the_longest_that_an_id_waits():
    for later, ids in ((1.0, [1]), (1.001, [2])):
        tracker = Tracker(BODYPOSE_18.sigmas)
        tracker.update(people((100, 100)), 0.0)
        assert tracker.update(people((100, 100)), later) == ids


def test_a_person_at_the_least_score_gets_an_id(tracker):
    frame = people((100, 100), (300, 100))
    frame.scores[:] = 0.2, 0.1999
    assert tracker.update(frame, 0.0) == [1, 0]


def test_two_frames_of_one_time_and_people_without_a_joint_in_common_are_no_error():
    tracker = Tracker(BODYPOSE_18.sigmas, Matching(min_oks=0.0))
    upper, lower = people((100, 100)), people((100, 100))
    upper.keypoints[0, 9:] = 0
    lower.keypoints[0, :9] = 0

    assert tracker.update(upper, 0.0) == tracker.update(upper, 0.0) == [1]
    assert tracker.update(lower, 0.04) == [1]
    assert tracker._tracks[0].speed.tolist() == [0, 0]


def test_a_speed_is_followed_slower_the_longer_it_is_known(tracker):
    """A hundred pixels a second: half of it at once, then a third of the rest, a quarter, ..."""
    tracker.update(people((100, 100)), 0.0)
    speeds = []
    for step in range(1, 6):
        tracker.update(people((100 + 4 * step, 100 - 2 * step)), step / 25)
        speeds.append(tracker._tracks[0].speed.tolist())

    follows = 1 - math.exp(-0.04 / 0.15)  # more than a fifth
    expected = [50, 50 + 50 / 3, 75, 75 + 25 * follows]
    expected.append(expected[-1] + (100 - expected[-1]) * follows)
    assert [x for x, _ in speeds] == pytest.approx(expected, rel=1e-4)
    assert [-2 * y for _, y in speeds] == pytest.approx(expected, rel=1e-4)


def test_a_newcomer_has_no_speed_of_somebody_who_is_gone(tracker):
    for step in range(10):
        tracker.update(people((100 + 10 * step, 100)), step / 25)
    assert tracker.update(people((600, 100)), 0.5) == [2]
    assert tracker._tracks[1].speed.tolist() == [0, 0]


def test_a_newcomer_has_the_median_speed_of_those_who_were_there_before(tracker):
    tracker.update(people((100, 100), (300, 100), (500, 100)), 0.0)
    tracker.update(people((104, 100), (301, 100), (500, 100), (900, 100)), 0.04)
    assert tracker._tracks[3].speed.tolist() == pytest.approx([12.5, 0], rel=1e-4)
    assert [track.sightings for track in tracker._tracks] == [2, 2, 2, 1]


def test_a_joint_out_of_sight_is_carried_along_and_fades(tracker):
    tracker.update(people((100, 100)), 0.0)
    half = people((104, 100))
    half.keypoints[0, 5] = 0
    tracker.update(half, 0.04)
    tracker.update(half, 0.04 + 0.04)

    joint = tracker._tracks[0].keypoints[5]
    coasted = 50 * 0.4 * (1 - math.exp(-0.04 / 0.4))
    assert joint.tolist() == pytest.approx(
        [100 + STANDING[5, 0] + coasted, 100 + STANDING[5, 1], 0.8 * 0.7**2], rel=1e-4
    )


@pytest.mark.parametrize(
    ("width", "height", "size"), [(40, 90, 60), (90, 0, 30), (0, 90, 30), (0, 0, 1), (1, 1, 1)]
)
def test_the_size_of_a_person_is_the_root_of_its_area(tracker, width, height, size):
    person = people((100, 100))
    person.keypoints[0, 2:] = 0
    person.keypoints[0, :2] = (10, 20, 0.5), (10 + width, 20 + height, 0.01)

    tracker.update(person, 0.0)
    assert tracker._tracks[0].size == pytest.approx(size)
    person.keypoints[0, 1, :2] = 10 + 3 * width, 20 + 3 * height
    tracker._see(tracker._tracks[0], person.keypoints[0], person.keypoints[0], 3 * size, 0.04)
    assert tracker._tracks[0].size == pytest.approx(2 * size)


def test_nobodys_size_is_a_pixel(tracker):
    nothing = people((100, 100))
    nothing.keypoints[:] = 0
    tracker.update(nothing, 0.0)
    assert tracker._tracks[0].size == 1


@pytest.mark.parametrize(
    ("sightings", "away_s", "sizes", "jerked_s"),
    [
        (1, 0.04, 4 * 0.04, 0.04),
        (2, 0.04, 4 * 0.04, 0.04),
        (3, 0.04, 1.5 * 0.04, 0.04),
        (3, 0.2, 1.5 * 0.2, 0.1),
        (3, 0.9, 0.5, 0.1),
        (1, 0.125, 0.5, 0.1),
    ],
)
def test_how_far_a_person_may_be_from_where_it_is_expected(
    tracker, sightings, away_s, sizes, jerked_s
):
    """Sizes of its body, and 100 pixels a second of a camera."""
    tracker.update(people((100, 100)), 0.0)
    (track,) = tracker._tracks
    track.sightings, track.size = sightings, 80.0

    assert tracker._unforeseen(track, away_s) == pytest.approx(
        math.hypot(80 * sizes, 100 * jerked_s)
    )
