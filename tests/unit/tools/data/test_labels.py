"""Labels are what their definitions say, cell by cell."""

import math

import numpy as np
import pytest

from bodypose_tools.data.labels import (
    UNKNOWN,
    LabelSettings,
    draw_affinity,
    draw_centres,
    draw_heatmaps,
    forget_unlabelled,
    loss_mask,
)
from pose_runtime.skeleton import Skeleton

HW = (64, 96)
# Sigmas of an eye, a shoulder, a hip and something that nobody could place.
STICK = Skeleton(
    name="stick",
    joints=("eye", "shoulder", "hip", "knee"),
    limbs=((0, 1), (2, 1), (1, 3)),
    mirror=(0, 1, 2, 3),
    sigmas=(0.025, 0.079, 0.107, 0.5),
    annotated=(0, 1, 2, 3),
)
# 0.6 and 1.2 times a shoulder's 5 px are the least and the most.
WIDTHS = (3.0, 5.0, 5 * math.sqrt(0.107 / 0.079), 6.0)


def joints_at(*points, there=2.0):
    """One person whose first joints are at these points."""
    joints = np.zeros((1, 4, 3), np.float32)
    joints[0, : len(points), :2] = points
    joints[0, : len(points), 2] = there
    return joints


def crowd(seed):
    """Joints in and around the picture, a third of them without a label."""
    random = np.random.default_rng(seed)
    people = random.uniform((-30, -30, 0), (126, 94, 3), (5, 4, 3)).astype(np.float32)
    people[..., 2] = np.floor(people[..., 2])
    return people


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_a_heatmap_is_the_largest_gaussian_of_its_joint(seed, stride):
    people = crowd(seed)
    expected = np.zeros((64 // stride, 96 // stride, 5))
    for row, column, joint in np.ndindex(*expected.shape[:2], 4):
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        for joint_x, joint_y, there in people[:, joint].tolist():
            squared = (x - joint_x) ** 2 + (y - joint_y) ** 2
            heat = math.exp(-squared / (2 * WIDTHS[joint] ** 2))
            if there > 0 and heat >= 0.001:
                expected[row, column, joint] = max(expected[row, column, joint], heat)
    expected[..., 4] = 1 - expected[..., :4].max(axis=2)

    drawn = draw_heatmaps(people, STICK, HW, LabelSettings(heatmap_stride=stride))

    assert drawn.dtype == np.float32
    assert drawn == pytest.approx(expected, abs=2e-5)


def test_centres_are_as_wide_as_a_shoulder():
    points = np.float32([[50, 30, 1], [20, 10, 0]])

    drawn = draw_centres(points, HW, LabelSettings())

    assert drawn.shape == (16, 24, 1)
    assert drawn[7, 12, 0] == 1
    assert drawn[7, 13, 0] == pytest.approx(math.exp(-16 / 50))
    assert drawn[2, 4, 0] == 0


def test_a_weak_end_of_a_gaussian_is_nothing():
    drawn = draw_heatmaps(joints_at((2, 2), (50, 30)), STICK, HW, LabelSettings())[..., 1]

    assert drawn[7, 16] == pytest.approx(math.exp(-256 / 50))
    assert (drawn[7, 17], drawn[10, 16]) == (0, 0)


@pytest.mark.parametrize("half_width", [1.0, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_an_affinity_field_is_the_mean_direction_of_the_limbs_there(seed, half_width):
    people = crowd(seed)
    expected = np.zeros((8, 12, 6))
    for row, column, limb in np.ndindex(8, 12, 3):
        x, y = (column + 0.5) * 8, (row + 0.5) * 8
        units = []
        for person in people.tolist():
            (ax, ay, a_there), (bx, by, b_there) = (person[end] for end in STICK.limbs[limb])
            length = math.hypot(bx - ax, by - ay)
            unit_x, unit_y = (bx - ax) / length, (by - ay) / length
            is_near = (
                min(ax, bx) - 8 * half_width <= x <= max(ax, bx) + 8 * half_width
                and min(ay, by) - 8 * half_width <= y <= max(ay, by) + 8 * half_width
                and abs((x - ax) * unit_y - (y - ay) * unit_x) <= 8 * half_width
            )
            if is_near and a_there > 0 and b_there > 0:
                units.append((unit_x, unit_y))
        if units:
            expected[row, column, 2 * limb : 2 * limb + 2] = np.mean(units, axis=0)

    drawn = draw_affinity(people, STICK, HW, LabelSettings(paf_ortho_dist_thresh=half_width))

    assert drawn == pytest.approx(expected, abs=1e-5)


def test_a_limb_without_a_length_has_no_direction():
    assert not draw_affinity(joints_at((50, 30), (50, 30)), STICK, HW, LabelSettings()).any()
    tiny = draw_affinity(joints_at((50, 30), (50.01, 30)), STICK, HW, LabelSettings())
    assert tiny[3, 6, :2] == pytest.approx([1, 0], abs=1e-3)


def empty_fields(fine=2):
    heatmaps = np.zeros((8 * fine, 12 * fine, 5), np.float32)
    heatmaps[..., -1] = 1
    return heatmaps, np.zeros((8, 12, 6), np.float32)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((8.1, 15.9, 8, 0.2), (1, 3), (1, 3)),
        ((8, 16, 8, 8), (2, 3), (1, 2)),
        ((-20, -20, 30, 30), (0, 2), (0, 2)),
        ((-20, 0, 12, 64), (0, 0), (0, 0)),
        ((0, -20, 96, 12), (0, 0), (0, 0)),
        ((0, 0, 960, 640), (0, 8), (0, 12)),
    ],
)
def test_every_cell_that_an_ignored_box_touches_is_masked(box, rows, columns):
    expected = np.ones((8, 12, 1))
    expected[slice(*rows), slice(*columns)] = 0

    mask = loss_mask(np.float32([box]), *empty_fields())

    assert mask.dtype == np.float32
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize("fine", [1, 2, 4])
def test_a_cell_with_more_than_a_tenth_of_a_joint_or_a_limb_counts(fine):
    heatmaps, affinity = empty_fields(fine)
    heatmaps[3 * fine, 5 * fine + fine - 1, -1] = 0.89
    heatmaps[4 * fine, 6 * fine, -1] = 0.91
    affinity[1, 2, 3] = -0.01

    mask = loss_mask(np.float32([[0, 0, 96, 64]]), heatmaps, affinity)

    assert np.argwhere(mask[..., 0]).tolist() == [[1, 2], [3, 5]]


def test_joints_without_a_label_are_unknown_in_their_persons_box():
    heatmaps, _ = empty_fields()  # cells of 4 network pixels
    heatmaps[3, 5, 0], heatmaps[3, 6, 0] = 0.1, 0.09
    expected = heatmaps.copy()
    expected[2:5, 4:8, 0] = UNKNOWN
    expected[3, 5, 0] = 0.1
    expected[2:5, 4:8, 2] = UNKNOWN
    expected[0:3, 0:2, 1] = UNKNOWN
    unlabelled = np.array([[True, False, True, False], [False, True, False, False], [True] * 4])
    boxes = np.float32([[19, 8, 10, 12], [-8, -4, 13, 16], [-30, -30, 29, 29]])

    forget_unlabelled(heatmaps, unlabelled, boxes, HW)

    assert np.array_equal(heatmaps, expected)
