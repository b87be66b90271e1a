"""What is said about the channels of a network whose people are known."""

import numpy as np
import pytest

from bodypose_tools.adoption.channels import ChannelReport, channel_report
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec
from tests.unit.tools.foreign_networks import draw_fields, draw_heatmaps
from tests.unit.tools.people import person

HW = (192, 256)
SPEC = PipelineSpec(network_hw=HW)
PEOPLE = np.stack([person(10, 20, 1.4), person(120, 10, 1.5)])
HEATMAPS = draw_heatmaps(PEOPLE, HW, 4)[None]
FIELDS = draw_fields(PEOPLE, BODYPOSE_18, HW, 8)[None]
LIMBS = 19


def report(
    people: np.ndarray = PEOPLE, heatmaps: np.ndarray = HEATMAPS, fields: np.ndarray = FIELDS
) -> ChannelReport:
    peaks = np.zeros((1, 18, 20, 3), np.float32)
    peaks[0, :, : len(people)] = people.transpose(1, 0, 2)
    peaks[..., 2] = np.minimum(peaks[..., 2], 0.9)
    return channel_report(peaks, heatmaps, fields, SPEC)


def pairs(fields: np.ndarray) -> np.ndarray:
    return fields.reshape(1, LIMBS, 2, *fields.shape[2:])


def test_a_sound_network_has_no_doubts():
    sound = report()
    assert sound.doubts == []
    assert [joint.peaks for joint in sound.joints] == [2] * 18
    assert min(limb.along for limb in sound.limbs) > 0.9


def test_the_table_has_a_row_for_each_channel():
    lines = report().lines()
    assert len(lines) == 2 + 18 + LIMBS
    assert lines[1].split() == ["nose", "2.0", "0.90", "0.01"]
    assert lines[20].startswith("neck - right_hip ")


def test_fields_that_point_back_are_named():
    turned = FIELDS.copy()
    turned[:, [6, 7]] *= -1
    (doubt,) = report(fields=turned).doubts
    assert doubt == (
        "fields of neck - left_hip: point along them when turned; see --direction or --backwards"
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (-FIELDS, "when turned; see --direction or --backwards"),
        (
            pairs(FIELDS)[:, :, ::-1].reshape(FIELDS.shape),
            "with x and y exchanged; see --field-order",
        ),
        (
            -pairs(FIELDS)[:, :, ::-1].reshape(FIELDS.shape),
            "when turned, with x and y exchanged; see --field-order and --direction",
        ),
    ],
    ids=["turned", "exchanged", "both"],
)
def test_what_is_wrong_with_all_limbs_is_said_once(fields, expected):
    first = report(fields=fields).doubts[0]
    count = int(first.removeprefix("fields of ").split()[0])
    assert count >= 15
    assert first.endswith(f"limbs: point along them {expected}")


def test_exchanged_limbs_are_named():
    exchanged = pairs(FIELDS).copy()
    exchanged[:, [7, 11]] = exchanged[:, [11, 7]]  # the upper arms
    said = report(fields=exchanged.reshape(FIELDS.shape)).doubts
    assert len(said) == 2
    assert "right_shoulder - right_elbow: those of left_shoulder - left_elbow fit;" in said[0]
    assert "left_shoulder - left_elbow: those of right_shoulder - right_elbow fit;" in said[1]


def test_exchanged_joints_are_found_by_the_fields_between_them():
    exchanged = PEOPLE.copy()
    exchanged[:, [3, 6]] = exchanged[:, [6, 3]]  # the elbows
    said = " ".join(report(people=exchanged).doubts)
    assert "right_shoulder - right_elbow" in said
    assert "--joint-channels" in said


def test_fields_shifted_by_one_limb_are_named():
    said = report(fields=np.roll(FIELDS, 2, axis=1)).doubts
    assert any("right_hip - right_knee: those of right_knee - right_ankle fit" in s for s in said)


def test_a_background_among_the_joints_is_named():
    heatmaps = HEATMAPS.copy()
    heatmaps[0, 4] = 1 - HEATMAPS[0].max(axis=0)
    (doubt,) = report(heatmaps=heatmaps).doubts
    assert doubt.startswith("heatmap of right_wrist: looks like the background")


def test_joints_without_peaks_are_named_and_their_limbs_are_unknown():
    people = PEOPLE.copy()
    people[:, 0, 2] = 0
    said = report(people=people)
    assert [line.partition(":")[0] for line in said.doubts] == ["heatmap of nose"]
    limbs = {limb.limb: limb.along for limb in said.limbs}
    assert limbs["neck - nose"] is limbs["nose - left_eye"] is None
    assert "neck - nose                             -" in said.lines()


def test_fields_of_nothing_are_named():
    (doubt,) = report(fields=np.zeros_like(FIELDS)).doubts
    assert doubt == "fields of 19 of 19 limbs: do not point along them; see --field-channels"


def test_peaks_everywhere_are_named():
    rng = np.random.default_rng(0)
    peaks = rng.uniform(0.3, 0.9, (1, 18, 20, 3)).astype(np.float32)
    said = channel_report(peaks, HEATMAPS, FIELDS, SPEC).doubts
    assert sum("peaks everywhere" in line for line in said) == 18
