"""A person's centre says which peaks belong together, and where joints without a peak are."""

import numpy as np
import pytest

from bodypose_tools.networks.centres import CentreMatcher
from pose_runtime.grouping import group_poses
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import GroupingSettings
from tests.unit.tools.people import person

HW = (72, 96)  # cells of 4 network pixels
NUM_PEAKS = 5
LEFT_WRIST, LEFT_ELBOW = 7, 6


@pytest.fixture(scope="module")
def match():
    matcher = CentreMatcher(
        BODYPOSE_18.limbs, tolerance=0.05, min_centre=0.1, min_joint=0.1, stride=4
    )

    def match(expected, peaks, centre=0.81):
        """Completed peaks (18, 5, 3) and scores (19, 5, 5); people's joints are (N, 18, 3)."""
        centres = np.zeros((1, NUM_PEAKS, 3), np.float32)
        offsets = np.zeros((1, *HW, 36), np.float32)
        for row, joints in enumerate(expected):
            centres[0, row] = *((joints[:, :2].min(0) + joints[:, :2].max(0)) / 2), centre
            column, line = np.clip(centres[0, row, :2] // 4, 0, (95, 71)).astype(int)
            offsets[0, line, column] = (joints[:, :2] / 4 - (column + 0.5, line + 0.5)).ravel()
        return [np.asarray(out)[0] for out in matcher(centres, offsets, peaks[None])]

    return match


def peaks_of(people, score=0.8) -> np.ndarray:
    """(18, 5, 3): one row for each person, with `score` where the joint is drawn."""
    peaks = np.zeros((18, NUM_PEAKS, 3), np.float32)
    for row, joints in enumerate(people):
        is_there = joints[:, 2] > 0
        peaks[is_there, row, :2] = joints[is_there, :2]
        peaks[is_there, row, 2] = score
    return peaks


def test_a_centre_says_which_peaks_belong_together(match):
    people = [person(60, 60, 1.5), person(100, 60, 1.5)]
    completed, scores = match(people, peaks_of(people))
    assert np.array_equal(completed, peaks_of(people))
    assert scores == pytest.approx(np.tile(np.diag([0.81, 0.81, 0, 0, 0]), (19, 1, 1)), abs=1e-6)


def test_a_wrist_without_a_peak_is_where_the_centre_expects_it(match):
    whole, seen = person(60, 60, 1.5), person(60, 60, 1.5, missing=(LEFT_WRIST,))
    completed, scores = match([whole], peaks_of([seen]))
    wrist = completed[LEFT_WRIST, -1]
    assert wrist[:2] == pytest.approx(whole[LEFT_WRIST, :2], abs=1e-3)
    assert wrist[2] == pytest.approx(0.5 * 17 * 0.8 / 18)
    assert np.count_nonzero(completed[..., 2]) == 18
    assert scores[BODYPOSE_18.limbs.index((LEFT_ELBOW, LEFT_WRIST)), 0, -1] == pytest.approx(0.81)
    found = group_poses(completed, scores, BODYPOSE_18, GroupingSettings())
    assert found.num_keypoints.tolist() == [18]


def test_a_weak_persons_joint_still_scores_what_grouping_accepts(match):
    seen = person(60, 60, 1.5, missing=(LEFT_WRIST,))
    completed, scores = match([person(60, 60, 1.5)], peaks_of([seen], score=0.12))
    assert 0.1 < completed[LEFT_WRIST, -1, 2] < 0.11
    found = group_poses(completed, scores, BODYPOSE_18, GroupingSettings())
    assert np.count_nonzero(found.keypoints[..., 2]) == 18


def test_the_best_centre_fills_the_row_of_the_weakest_peak(match):
    whole = [person(20, 60, 1.5), person(120, 60, 1.5)]
    seen = [person(x, 60, 1.5, missing=(LEFT_WRIST,)) for x in (20, 120)]
    completed = match(whole, peaks_of(seen))[0]
    assert completed[LEFT_WRIST, -1, 0] == pytest.approx(whole[0][LEFT_WRIST, 0], abs=1e-3)
    assert completed[LEFT_WRIST, -2, 0] == pytest.approx(whole[1][LEFT_WRIST, 0], abs=1e-3)


def test_without_a_centre_nothing_is_added(match):
    seen = peaks_of([person(60, 60, 1.5, missing=(LEFT_WRIST,))])
    for expected, centre in (([], 0.9), ([person(60, 60, 1.5)], 0.09)):
        completed, scores = match(expected, seen, centre)
        assert np.array_equal(completed, seen)
        assert not scores.any()


def test_a_centre_that_finds_two_joints_adds_none(match):
    two = peaks_of([person(60, 60, 1.5, missing=tuple(range(2, 18)))])
    assert np.array_equal(match([person(60, 60, 1.5)], two)[0], two)


def test_a_joint_beyond_the_border_is_not_added(match):
    whole = person(60, 160, 1.5)  # its ankles are 19 pixels below the last row
    seen = peaks_of([person(60, 160, 1.5, missing=(10, 13))])
    assert np.array_equal(match([whole], seen)[0], seen)


def test_a_peak_beside_the_expected_place_is_the_joint(match):
    expected = person(60, 60, 1.5)
    moved = expected.copy()
    moved[LEFT_WRIST, :2] += 15, -10
    completed, scores = match([expected], peaks_of([moved]))
    assert np.array_equal(completed, peaks_of([moved]))
    assert scores[:, 0, 0] == pytest.approx(0.81)


def test_a_strong_peak_is_picked_before_a_nearer_weak_one(match):
    joints = person(60, 60, 1.5)
    peaks = peaks_of([joints])
    peaks[LEFT_WRIST, 1] = peaks[LEFT_WRIST, 0] + (3, 0, -0.7)  # on the place, 0.1
    peaks[LEFT_WRIST, 0, :2] += 3, 0
    peaks[LEFT_WRIST, 1, :2] -= 3, 0
    scores = match([joints], peaks)[1][BODYPOSE_18.limbs.index((LEFT_ELBOW, LEFT_WRIST))]
    assert scores[0, 0] == pytest.approx(0.81)
    assert scores[0, 1] == 0


def test_a_peak_has_one_owner_and_the_other_gets_its_own(match):
    people = [person(60, 60, 1.5), person(80, 60, 1.5)]
    seen = [people[0], person(80, 60, 1.5, missing=(LEFT_WRIST,))]
    completed, scores = match(people, peaks_of(seen))
    limb = scores[BODYPOSE_18.limbs.index((LEFT_ELBOW, LEFT_WRIST))]
    assert limb[0, 0] == pytest.approx(0.81)
    assert limb[1, 0] == 0
    assert completed[LEFT_WRIST, -2, :2] == pytest.approx(people[1][LEFT_WRIST, :2], abs=1e-3)


@pytest.mark.parametrize(("score", "is_kept"), [(0.11, True), (0.09, False)])
def test_only_rows_without_a_joint_are_filled(match, score, is_kept):
    peaks = peaks_of([person(60, 60, 1.5, missing=(LEFT_WRIST,))])
    peaks[LEFT_WRIST, :] = 350, 20, score  # five peaks of somebody far away
    completed = match([person(60, 60, 1.5)], peaks)[0]
    assert (completed[LEFT_WRIST, -1, 0] == 350) == is_kept
    assert (completed[LEFT_WRIST, :-1, 0] == 350).all()


def size_of(joints) -> float:
    return float(np.sqrt(np.prod(np.ptp(joints[:, :2], axis=0))))


WRIST_LIMB = BODYPOSE_18.limbs.index((LEFT_ELBOW, LEFT_WRIST))


@pytest.mark.parametrize(("share", "is_picked"), [(0.59, True), (0.61, False)])
def test_a_peak_of_six_tenths_of_a_person_away_is_anothers(match, share, is_picked):
    joints = person(60, 60, 1.5)
    seen = joints.copy()
    seen[LEFT_WRIST, 0] += share * size_of(joints)
    scores = match([joints], peaks_of([seen]))[1]
    assert (scores[WRIST_LIMB, 0, 0] > 0) == is_picked


@pytest.mark.parametrize(("share", "strong"), [(0.035, True), (0.045, False)])
def test_a_strong_peak_loses_half_at_the_tolerance(match, share, strong):
    """0.9 / (1 + share / 0.05) is 0.5 where the share is 0.04."""
    joints = person(60, 60, 1.5)
    peaks = peaks_of([joints])
    peaks[LEFT_WRIST, 0, 2] = 0.5
    peaks[LEFT_WRIST, 1] = joints[LEFT_WRIST, 0], joints[LEFT_WRIST, 1], 0.9
    peaks[LEFT_WRIST, 1, 1] += share * size_of(joints)
    scores = match([joints], peaks)[1][WRIST_LIMB, 0]
    assert (scores[0] > 0, scores[1] > 0) == (not strong, strong)


@pytest.mark.parametrize(("pixels", "is_picked"), [(9.5, True), (9.7, False)])
def test_a_tiny_person_counts_as_16_pixels(match, pixels, is_picked):
    joints = person(60, 60, 0.05)
    assert size_of(joints) < 10
    seen = joints.copy()
    seen[LEFT_WRIST, 1] -= pixels
    scores = match([joints], peaks_of([seen]))[1]
    assert (scores[WRIST_LIMB, 0, 0] > 0) == is_picked


@pytest.mark.parametrize(("joints", "adds"), [(2, False), (3, True)])
def test_three_peaks_make_a_person_whose_joints_are_added(match, joints, adds):
    whole = person(60, 60, 1.5)
    seen = peaks_of([person(60, 60, 1.5, missing=tuple(range(joints, 18)))])
    completed = match([whole], seen)[0]
    assert np.count_nonzero(completed[..., 2]) == (18 if adds else joints)
    if adds:
        assert completed[LEFT_WRIST, -1, 2] == pytest.approx(max(0.5 * 3 * 0.8 / 18, 0.101))


def test_of_two_centres_the_surer_one_owns_a_peak_between_them():
    """Values for the peak are equal; the root of the centre's score decides."""
    matcher = CentreMatcher(((0, 1),), tolerance=0.1, min_centre=0.1, min_joint=0.1, stride=4)
    centres = np.float32([[[42, 42, 0.81], [82, 42, 0.25]]])
    offsets = np.zeros((1, 24, 32, 4), np.float32)
    # From the centres of their cells, (42, 42) and (82, 42), in cells: a box of 40 pixels.
    offsets[0, 10, 10] = 5, 0, -5, 10
    offsets[0, 10, 20] = -5, 0, 5, 10
    peaks = np.zeros((1, 2, 2, 3), np.float32)
    peaks[0, 0, 0] = 62, 42, 0.8
    peaks[0, 1] = [[22, 82, 0.8], [102, 82, 0.8]]

    completed, scores = (np.asarray(each)[0] for each in matcher(centres, offsets, peaks))

    assert np.array_equal(completed, peaks[0])  # two joints are too few to add any
    assert scores[0, 0] == pytest.approx([0.81, 0])
    assert not scores[0, 1].any()


@pytest.mark.parametrize(("score", "is_used"), [(0.1, False), (0.101, True)])
def test_a_centre_above_the_least_score_is_used(match, score, is_used):
    joints = person(60, 60, 1.5)
    scores = match([joints], peaks_of([joints]), np.float32(score))[1]
    assert scores[WRIST_LIMB, 0, 0] == pytest.approx(score if is_used else 0, abs=1e-6)


@pytest.mark.parametrize(("score", "is_joint"), [(0.0999, False), (0.1, True)])
def test_a_peak_at_the_least_score_is_a_joint(match, score, is_joint):
    joints = person(60, 60, 1.5)
    peaks = peaks_of([joints])
    peaks[LEFT_WRIST, 0, 2] = score
    scores = match([joints], peaks)[1]
    assert (scores[WRIST_LIMB, 0, 0] > 0) == is_joint


@pytest.mark.parametrize("corner", [(0.0, 0.0), (384.0, 288.0), (390.0, 300.0), (-5.0, -5.0)])
def test_a_centre_beyond_the_border_has_the_offsets_of_the_last_cell(corner):
    matcher = CentreMatcher(((0, 1),), tolerance=0.1, min_centre=0.1, min_joint=0.1, stride=4)
    centres = np.float32([[[*corner, 0.9]]])
    offsets = np.zeros((1, *HW, 4), np.float32)
    offsets[0, 0, 0], offsets[0, -1, -1] = (1, 2, 3, 4), (-1, -2, -3, -4)
    x, y = matcher._expected(centres, offsets)
    if corner[0] > 0:
        expected = [[384 - 2 - 4, 384 - 2 - 12], [288 - 2 - 8, 288 - 2 - 16]]
    else:
        expected = [[2 + 4, 2 + 12], [2 + 8, 2 + 16]]
    assert [np.asarray(x)[0, :, 0].tolist(), np.asarray(y)[0, :, 0].tolist()] == expected


def test_each_image_of_a_batch_has_its_own_offsets_and_peaks(match):
    joints = [person(20, 60, 1.5), person(120, 60, 1.2)]
    matcher = CentreMatcher(
        BODYPOSE_18.limbs, tolerance=0.05, min_centre=0.1, min_joint=0.1, stride=4
    )
    centres = np.zeros((2, NUM_PEAKS, 3), np.float32)
    offsets = np.zeros((2, *HW, 36), np.float32)
    peaks = np.stack([peaks_of([person(20, 60, 1.5, missing=(LEFT_WRIST,))]), peaks_of(joints[1:])])
    for image, each in enumerate(joints):
        centres[image, 0] = *((each[:, :2].min(0) + each[:, :2].max(0)) / 2), 0.81
        column, line = (centres[image, 0, :2] // 4).astype(int)
        offsets[image, line, column] = (each[:, :2] / 4 - (column + 0.5, line + 0.5)).ravel()

    completed, scores = (np.asarray(each) for each in matcher(centres, offsets, peaks))

    assert completed[0, LEFT_WRIST, -1, :2] == pytest.approx(joints[0][LEFT_WRIST, :2], abs=1e-3)
    assert np.array_equal(completed[1], peaks[1])
    assert scores[1, :, 0, 0] == pytest.approx(np.full(19, 0.81), abs=1e-6)


@pytest.mark.parametrize(("left", "is_inside"), [(0.0, False), (0.5, True)])
def test_a_joint_on_the_very_border_is_not_added(match, left, is_inside):
    whole = person(60, 60, 1.5)
    right_wrist = int(whole[:, 0].argmin())
    whole[:, 0] += left - whole[right_wrist, 0]
    seen = peaks_of([whole])
    seen[right_wrist] = 0
    completed = match([whole], seen)[0]
    assert (completed[right_wrist, -1, 2] > 0) == is_inside
    assert np.count_nonzero(completed[..., 2]) == 17 + is_inside
