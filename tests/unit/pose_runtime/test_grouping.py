"""Grouping alone, on hand-made peaks and limb scores of a three-joint skeleton."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose_runtime import joining
from pose_runtime.errors import NotFinite
from pose_runtime.grouping import group_poses, people_in_image
from pose_runtime.letterbox import Letterbox
from pose_runtime.skeleton import BODYPOSE_18, Skeleton
from pose_runtime.spec import GroupingSettings, PipelineSpec

CHAIN = Skeleton(
    name="chain",
    joints=("a", "b", "c"),
    limbs=((0, 1), (1, 2)),
    mirror=(0, 1, 2),
    sigmas=(0.1, 0.1, 0.1),
    annotated=(0, 1, 2),
)
# Limbs that make no tree, and a joint without any.
RING = Skeleton(
    name="ring",
    joints=("a", "b", "c", "d", "alone"),
    limbs=((0, 1), (2, 1), (2, 3), (3, 0), (0, 2)),
    mirror=(0, 1, 2, 3, 4),
    sigmas=(0.1,) * 5,
    annotated=(0, 1, 2, 3, 4),
)
# Ten joints in a row: a path to the root that has to be halved three times.
LONG = Skeleton(
    name="long",
    joints=tuple("abcdefghij"),
    limbs=tuple((joint, joint + 1) for joint in range(9)),
    mirror=tuple(range(10)),
    sigmas=(0.1,) * 10,
    annotated=tuple(range(10)),
)
EVERYTHING = GroupingSettings(min_peak_score=0.1, min_limb_score=0.05, min_joints=1)


OKS_OF_2_ACROSS = 0.40870385  # one joint of sigma 0.1, area 0.27 * 16 ** 2, an error of 2


def peaks_of(*joints: list[tuple[float, float, float]], num_peaks: int = 4) -> np.ndarray:
    peaks = np.zeros((len(joints), num_peaks, 3), np.float32)
    for joint, rows in enumerate(joints):
        peaks[joint, : len(rows)] = np.float32(rows).reshape(-1, 3)
    return peaks


def limb_scores_of(*links: tuple[int, int, int, float], num_peaks: int = 4) -> np.ndarray:
    scores = np.zeros((2, num_peaks, num_peaks), np.float32)
    for limb, first, second, score in links:
        scores[limb, first, second] = score
    return scores


def test_nothing_in_nobody_out():
    assert len(group_poses(peaks_of([], [], []), limb_scores_of(), CHAIN, EVERYTHING)) == 0


def test_two_limbs_make_one_whole_person_with_the_mean_score():
    peaks = peaks_of([(1, 2, 0.9)], [(3, 4, 0.6)], [(5, 6, 0.3)])
    poses = group_poses(peaks, limb_scores_of((0, 0, 0, 0.5), (1, 0, 0, 0.5)), CHAIN, EVERYTHING)
    assert poses.keypoints.tolist() == peaks[:, :1].transpose(1, 0, 2).tolist()
    assert poses.scores.tolist() == pytest.approx([0.6 * OKS_OF_2_ACROSS])


def test_a_person_with_a_part_missing_scores_less():
    peaks = peaks_of([(1, 2, 0.9)], [(3, 4, 0.6)], [])
    poses = group_poses(peaks, limb_scores_of((0, 0, 0, 0.5)), CHAIN, EVERYTHING)
    assert poses.scores.tolist() == pytest.approx([0.75 * (2 / 3) ** 0.5 * OKS_OF_2_ACROSS])


def test_the_stronger_limb_wins_a_shared_joint():
    peaks = peaks_of([(1, 1, 0.9), (9, 9, 0.8)], [(2, 2, 0.9)], [])
    scores = limb_scores_of((0, 0, 0, 0.4), (0, 1, 0, 0.7))
    poses = group_poses(peaks, scores, CHAIN, EVERYTHING)
    assert poses.keypoints[0, 0, 0] == 9
    assert poses.num_keypoints.tolist() == [2, 1]


def test_two_people_who_both_have_a_joint_are_not_joined():
    peaks = peaks_of([(1, 1, 0.9), (2, 2, 0.9)], [(3, 3, 0.9), (4, 4, 0.9)], [(5, 5, 0.9)])
    scores = limb_scores_of((0, 0, 0, 0.9), (0, 1, 1, 0.8), (1, 0, 0, 0.7), (1, 1, 0, 0.6))
    poses = group_poses(peaks, scores, CHAIN, EVERYTHING)
    assert poses.num_keypoints.tolist() == [3, 2]


def test_weak_peaks_and_weak_limbs_are_nothing():
    peaks = peaks_of([(1, 1, 0.9)], [(2, 2, 0.09)], [(3, 3, 0.9)])
    scores = limb_scores_of((0, 0, 0, 0.9), (1, 0, 0, 0.9))
    assert group_poses(peaks, scores, CHAIN, EVERYTHING).num_keypoints.tolist() == [1, 1]
    strong = peaks_of([(1, 1, 0.9)], [(2, 2, 0.9)], [])
    weak = limb_scores_of((0, 0, 0, 0.04))
    assert group_poses(strong, weak, CHAIN, EVERYTHING).num_keypoints.tolist() == [1, 1]


def test_people_with_too_few_joints_are_dropped():
    peaks = peaks_of([(1, 1, 0.9)], [(2, 2, 0.9)], [(8, 8, 0.9)])
    two = GroupingSettings(min_joints=2)
    poses = group_poses(peaks, limb_scores_of((0, 0, 0, 0.5)), CHAIN, two)
    assert poses.num_keypoints.tolist() == [2]


def test_unused_rows_are_no_joints_even_without_a_threshold():
    peaks = peaks_of([(1, 1, 0.9)], [], [])
    settings = GroupingSettings(min_peak_score=0, min_limb_score=0, min_joints=1)
    assert len(group_poses(peaks, limb_scores_of(), CHAIN, settings)) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_network_that_gives_no_numbers_is_an_error(bad):
    good_peaks, good_scores = peaks_of([(1, 1, 0.9)], [(2, 2, 0.9)], []), limb_scores_of()
    for peaks, limb_scores in (
        (peaks_of([(1, 1, bad)], [], []), good_scores),
        (peaks_of([(bad, 1, 0.9)], [], []), good_scores),
        (good_peaks, limb_scores_of((0, 0, 0, bad))),
        (good_peaks, limb_scores_of((1, 3, 3, -bad))),
    ):
        with pytest.raises(NotFinite, match="expected finite numbers"):
            group_poses(peaks, limb_scores, CHAIN, EVERYTHING)


def test_people_come_back_in_the_images_own_pixels():
    spec = PipelineSpec(skeleton=CHAIN, max_peaks=4, grouping=EVERYTHING)
    letterbox = Letterbox.fit((576, 384), spec.network_hw)  # half size, 96 pixels to the right
    peaks = peaks_of([(96 + 10, 20, 0.9)], [], [])
    poses = people_in_image(peaks, limb_scores_of(), letterbox.to_geometry(), spec)
    assert poses.keypoints[0, 0].tolist() == pytest.approx([20, 40, 0.9])
    assert poses.keypoints[0, 1].tolist() == [0, 0, 0]


def slow_grouping(
    peaks: np.ndarray, limb_scores: np.ndarray, skeleton: Skeleton
) -> list[set[tuple[int, int]]]:
    """The rule of `group_poses`, as plainly as it can be said: people are sets of (joint, peak)."""
    num_joints, num_peaks = peaks.shape[:2]
    people = [
        {(joint, peak)}
        for joint, peak in itertools.product(range(num_joints), range(num_peaks))
        if peaks[joint, peak, 2] >= EVERYTHING.min_peak_score
    ]
    links = [
        (-limb_scores[limb, first, second], limb, first, second)
        for limb, first, second in itertools.product(*map(range, limb_scores.shape))
        if limb_scores[limb, first, second] >= EVERYTHING.min_limb_score
    ]
    taken = []
    for _, limb, first, second in sorted(links):
        ends = [(skeleton.limbs[limb][0], first), (skeleton.limbs[limb][1], second)]
        owners = [[person for person in people if end in person] for end in ends]
        if not all(owners) or any((limb, end) in taken for end in ends):
            continue
        one, other = owners[0][0], owners[1][0]
        if one is not other:
            if {joint for joint, _ in one} & {joint for joint, _ in other}:
                continue
            people = [person for person in people if person is not one and person is not other]
            people.append(one | other)
        taken += [(limb, end) for end in ends]
    return people


def assert_the_slow_way_finds_the_same(
    peaks: np.ndarray, limb_scores: np.ndarray, skeleton: Skeleton
) -> None:
    poses = group_poses(peaks, limb_scores, skeleton, EVERYTHING)
    expected = {
        frozenset((joint, *peaks[joint, peak].tolist()) for joint, peak in person)
        for person in slow_grouping(peaks, limb_scores, skeleton)
    }
    got = {
        frozenset((joint, *row) for joint, row in enumerate(person.tolist()) if row[2] > 0)
        for person in poses.keypoints
    }
    assert got == expected


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0, 1))
def test_the_slow_obvious_grouping_finds_the_same_people(seed, density):
    rng = np.random.default_rng(seed)
    peaks = rng.uniform(0, 1, (3, 4, 3)).astype(np.float32)
    limb_scores = rng.uniform(0, 1, (2, 4, 4)).astype(np.float32)
    limb_scores[rng.random(limb_scores.shape) > density] = 0
    assert_the_slow_way_finds_the_same(peaks, limb_scores, CHAIN)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    skeleton=st.sampled_from([BODYPOSE_18, RING, LONG]),
    noise=st.sampled_from([0, 0.01, 0.1]),
)
def test_crowds_are_grouped_as_the_slow_obvious_way_does(seed, skeleton, noise):
    """People whose peak p is theirs alone, some limbs gone, and strong limbs between people."""
    rng = np.random.default_rng(seed)
    num_joints, num_limbs, num_people = skeleton.num_joints, skeleton.num_limbs, 3
    peaks = rng.uniform(0.05, 1, (num_joints, num_people, 3)).astype(np.float32)
    limb_scores = np.eye(num_people) * rng.uniform(0, 1, (num_limbs, num_people, num_people))
    limb_scores[rng.random(limb_scores.shape) < noise] = 0.9  # equal scores on purpose
    assert_the_slow_way_finds_the_same(peaks, limb_scores.astype(np.float32), skeleton)


def test_a_crowd_without_conflicts_is_worked_on_as_whole_arrays(monkeypatch):
    monkeypatch.setattr(joining, "_joined_one_by_one", None)
    peaks = np.full((18, 6, 3), 0.5, np.float32)
    limb_scores = np.broadcast_to(np.eye(6, dtype=np.float32), (19, 6, 6))
    poses = group_poses(peaks, limb_scores, BODYPOSE_18, EVERYTHING)
    assert poses.num_keypoints.tolist() == [18] * 6


def test_noise_is_worked_on_limb_by_limb(monkeypatch):
    calls = []
    one_by_one = joining._joined_one_by_one
    monkeypatch.setattr(
        joining, "_joined_one_by_one", lambda *inputs: calls.append(1) or one_by_one(*inputs)
    )
    rng = np.random.default_rng(0)
    peaks = rng.uniform(0.2, 1, (18, 20, 3)).astype(np.float32)
    limb_scores = rng.uniform(0, 1, (19, 20, 20)).astype(np.float32)
    assert len(group_poses(peaks, limb_scores, BODYPOSE_18, EVERYTHING)) >= 20
    assert calls


def test_a_joint_in_the_padding_is_at_the_edge_of_the_picture():
    """The network's input is square; above and below a wide picture it is grey."""
    spec = PipelineSpec(CHAIN, network_hw=(64, 64), grouping=EVERYTHING)
    letterbox = Letterbox.fit((100, 200), spec.network_hw)  # 64 x 32, 16 grey rows above
    peaks = peaks_of([(-3, 10, 0.9)], [(32, 32, 0.8)], [(70, 60, 0.7)])
    scores = limb_scores_of((0, 0, 0, 0.9), (1, 0, 0, 0.9))

    (person,) = people_in_image(peaks, scores, letterbox.to_geometry(), spec).keypoints

    assert person[:, :2].tolist() == [[0, 0], [100, 50], [200, 100]]
    assert person[:, 2].tolist() == np.float32([0.9, 0.8, 0.7]).tolist()


@pytest.mark.parametrize("skeleton", [BODYPOSE_18, LONG])
def test_whole_people_of_deep_skeletons_are_joined_at_once(monkeypatch, skeleton):
    monkeypatch.setattr(joining, "_joined_one_by_one", None)
    peaks = np.full((skeleton.num_joints, 3, 3), 0.5, np.float32)
    limb_scores = np.broadcast_to(np.eye(3, dtype=np.float32), (skeleton.num_limbs, 3, 3))
    poses = group_poses(peaks, limb_scores, skeleton, EVERYTHING)
    assert poses.num_keypoints.tolist() == [skeleton.num_joints] * 3


@pytest.mark.parametrize(("people", "one_by_one"), [(4, False), (5, True)])
def test_four_rounds_of_matching_are_the_most(monkeypatch, people, one_by_one):
    """Each limb but the first waits for a rival that a stronger one takes away."""
    calls = []
    slowly = joining._joined_one_by_one
    monkeypatch.setattr(
        joining, "_joined_one_by_one", lambda *inputs: calls.append(1) or slowly(*inputs)
    )
    links = [(0, person, person, 0.9 - 0.1 * person) for person in range(people)]
    links += [(0, person + 1, person, 0.85 - 0.1 * person) for person in range(people - 1)]
    rows = [(1, 1, 0.9)] * people
    poses = group_poses(
        peaks_of(rows, rows, [], num_peaks=5),
        limb_scores_of(*links, num_peaks=5),
        CHAIN,
        EVERYTHING,
    )
    assert poses.num_keypoints.tolist() == [2] * people
    assert bool(calls) is one_by_one


@pytest.mark.parametrize(("peak", "limb", "joints"), [(0.5, 0.25, [2]), (0.49, 0.25, [1])])
def test_what_reaches_a_threshold_counts(peak, limb, joints):
    settings = GroupingSettings(min_peak_score=0.5, min_limb_score=0.25, min_joints=1)
    peaks = peaks_of([(1, 1, 0.9)], [(2, 2, peak)], [])
    found = group_poses(peaks, limb_scores_of((0, 0, 0, limb)), CHAIN, settings)
    assert found.num_keypoints.tolist() == joints
    weak = group_poses(peaks, limb_scores_of((0, 0, 0, limb - 0.01)), CHAIN, settings)
    assert set(weak.num_keypoints.tolist()) == {1}


@pytest.mark.parametrize(("min_joints", "sizes"), [(0, [3, 1]), (1, [3, 1]), (2, [3]), (4, [])])
def test_a_person_has_min_joints_at_least(min_joints, sizes):
    peaks = peaks_of([(1, 1, 0.9), (9, 9, 0.5)], [(2, 2, 0.9)], [(3, 3, 0.9)])
    scores = limb_scores_of((0, 0, 0, 0.9), (1, 0, 0, 0.9))
    found = group_poses(peaks, scores, CHAIN, GroupingSettings(min_joints=min_joints))
    assert found.num_keypoints.tolist() == sizes


def test_a_score_is_one_at_most_and_equals_stay_in_their_order():
    peaks = peaks_of([(1, 1, 1.5), (2, 2, 1.5)], [(3, 3, 1.5), (4, 4, 1.5)], [(5, 5, 1.5)])
    scores = limb_scores_of((0, 0, 0, 0.9), (0, 1, 1, 0.9), (1, 1, 0, 0.9))
    found = group_poses(peaks, scores, CHAIN, EVERYTHING)
    assert found.scores.tolist() == pytest.approx([OKS_OF_2_ACROSS] * 2)
    assert found.scores[0] == found.scores[1]
    assert found.keypoints[:, 0, 0].tolist() == [1, 2]


def test_a_score_has_the_oks_that_a_size_allows_on_average():
    """Drawn errors of 2 pixels, and COCO's formula, against the closed form."""
    skeleton = replace(CHAIN, sigmas=(0.03, 0.1, 0.2))
    peaks = peaks_of([(10, 5, 0.8)], [(40, 45, 0.8)], [(30, 20, 0.8)])
    scores = limb_scores_of((0, 0, 0, 0.9), (1, 0, 0, 0.9))
    (score,) = group_poses(peaks, scores, skeleton, EVERYTHING).scores

    errors = np.random.default_rng(0).normal(0, 2, (400_000, 3, 2))
    area = 0.27 * (30**2 + 40**2)
    similarities = np.exp(
        -np.square(errors).sum(2) / (2 * area * np.square(2 * np.array(skeleton.sigmas)))
    )
    assert score == pytest.approx(0.8 * similarities.mean(), rel=2e-3)


def test_of_people_who_are_as_sure_the_larger_is_first():
    peaks = peaks_of([(0, 0, 0.9), (50, 0, 0.9)], [(20, 0, 0.9), (50, 200, 0.9)], [])
    scores = limb_scores_of((0, 0, 0, 0.9), (0, 1, 1, 0.5))
    found = group_poses(peaks, scores, CHAIN, EVERYTHING)
    assert found.keypoints[:, 0, 0].tolist() == [50, 0]
    assert found.scores[0] > 1.5 * found.scores[1]


def test_a_person_of_one_joint_still_scores():
    """A missing joint, which lies at 0, 0, is no part of a person's size."""
    found = group_poses(peaks_of([], [(300, 200, 1)], []), limb_scores_of(), CHAIN, EVERYTHING)
    assert found.scores.tolist() == pytest.approx([(1 / 3) ** 0.5 * OKS_OF_2_ACROSS])
