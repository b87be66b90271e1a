"""Labels, decoding layers and grouping are each other's inverse."""

import keras
import numpy as np
import pytest

from pose_runtime.grouping import group_poses
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import GroupingSettings
from tools.decoding import DecodeSettings, decode_fields
from tools.labels import LabelSettings, draw_fields, loss_mask

from .people import person

FIELD_HW = (36, 48)
GROUPING = GroupingSettings(min_joints=1)


@pytest.fixture(scope="module")
def decoder():
    fields = keras.Input((*FIELD_HW, BODYPOSE_18.num_fields))
    decoded = decode_fields(fields[..., :19], fields[..., 19:], BODYPOSE_18, DecodeSettings())
    return keras.Model(fields, list(decoded))


@pytest.fixture(scope="module")
def find(decoder):
    def find(people: np.ndarray) -> np.ndarray:
        fields = draw_fields(people, BODYPOSE_18, FIELD_HW, LabelSettings())
        peaks, limb_scores = (np.asarray(out)[0] for out in decoder.predict_on_batch(fields[None]))
        return group_poses(peaks, limb_scores, BODYPOSE_18, GROUPING).keypoints

    return find


def assert_same_people(found: np.ndarray, drawn: np.ndarray, tolerance: float = 1.0) -> None:
    """Each drawn person is one found person, every joint within `tolerance` network pixels."""
    assert len(found) == len(drawn)
    assert ((found[:, :, 2] > 0).sum(axis=1)).sum() == (drawn[:, :, 2] > 0).sum()
    for joints in drawn:
        present = joints[:, 2] > 0
        distances = np.linalg.norm(found[:, present, :2] - joints[present, :2], axis=2).max(axis=1)
        assert distances.min() <= tolerance


GROUPS = {
    "nobody": [],
    "one": [person(100, 80, 1.5)],
    "two apart": [person(40, 60, 2.0), person(260, 30, 1.2)],
    "two side by side": [person(100, 80, 1.5), person(170, 90, 1.5)],
    "two crossing": [person(100, 60, 2.0), person(138, 75, 1.8)],
    "without a wrist and an ear": [person(100, 80, 1.5, missing=(4, 16))],
    "only arms": [person(100, 80, 2.0, missing=(0, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17))],
    "at the upper left border": [person(-1, -3, 2.0)],
    "at the lower right border": [person(384 - 55, 288 - 148, 1.5)],
    "ten": [person(30 + 70 * column, 20 + 130 * row, 1.1) for row in (0, 1) for column in range(5)],
    "twenty": [person(8 + 38 * c, 6 + 140 * r, 0.8) for r in (0, 1) for c in range(10)],
}


@pytest.mark.parametrize("name", GROUPS)
def test_people_drawn_are_people_found(find, name):
    drawn = np.array(GROUPS[name], np.float32).reshape(-1, 18, 3)
    assert_same_people(find(drawn), drawn)


def test_a_joint_beyond_the_border_is_not_drawn_into_the_picture(find):
    drawn = person(100, 80, 1.5)
    drawn[10, :2] = 200, 400
    found = find(drawn[None])
    assert found[0, 9, 2] > 0
    assert found[0, 10, 2] == 0


@pytest.mark.parametrize("shift", np.linspace(0, 8, 9).tolist())
def test_a_lone_gaussian_is_found_to_a_twentieth_of_a_pixel(decoder, shift):
    joint = np.zeros((1, 18, 3), np.float32)
    joint[0, 0] = 100 + shift, 60 + shift / 2, 2
    fields = draw_fields(joint, BODYPOSE_18, FIELD_HW, LabelSettings())
    peaks = np.asarray(decoder.predict_on_batch(fields[None])[0])
    assert np.abs(peaks[0, 0, 0, :2] - joint[0, 0, :2]).max() < 0.05


def test_rows_without_a_peak_score_zero(decoder):
    peaks, limb_scores = decoder.predict_on_batch(np.zeros((1, *FIELD_HW, 57), np.float32))
    assert not np.asarray(peaks)[..., 2].any()
    assert not np.asarray(limb_scores).any()


def test_overlapping_limbs_are_averaged_and_not_overwritten():
    right = np.zeros((18, 3), np.float32)
    right[1], right[8] = (100, 100, 2), (200, 100, 2)
    down = np.zeros((18, 3), np.float32)
    down[1], down[8] = (150, 50, 2), (150, 150, 2)
    both = draw_fields(np.stack([right, down]), BODYPOSE_18, FIELD_HW, LabelSettings())
    crossing = both[100 // 8, 150 // 8, 19:21]
    assert crossing.tolist() == [0.5, 0.5]
    one = draw_fields(right[None], BODYPOSE_18, FIELD_HW, LabelSettings())
    assert one[100 // 8, 150 // 8, 19:21].tolist() == [1, 0]
    assert both[100 // 8, 110 // 8, 19:21].tolist() == [1, 0]


def test_heatmaps_and_limbs_share_one_grid():
    """A peak on a cell's centre lies in the middle of the limb that starts there."""
    joints = np.zeros((18, 3), np.float32)
    joints[1], joints[8] = (100, 100, 2), (100, 200, 2)
    fields = draw_fields(joints[None], BODYPOSE_18, FIELD_HW, LabelSettings())
    row, column = np.unravel_index(fields[:, :, 1].argmax(), FIELD_HW)
    limb = np.flatnonzero(fields[row, :, 20])
    assert (row, column) == (12, 12)
    assert limb.mean() == 12


def test_background_is_what_no_joint_covers():
    fields = draw_fields(person(100, 80)[None], BODYPOSE_18, FIELD_HW, LabelSettings())
    assert np.allclose(fields[:, :, 18], 1 - fields[:, :, :18].max(axis=2))


def test_ignored_boxes_are_masked_except_where_someone_is_drawn():
    fields = draw_fields(person(100, 80)[None], BODYPOSE_18, FIELD_HW, LabelSettings())
    mask = loss_mask(np.float32([[0, 0, 160, 288]]), fields, 18)[:, :, 0]
    assert mask[:, 21:].all()
    assert not mask[:, :8].any()
    assert mask[(88 // 8), (120 // 8)] == 1
