"""Labels, decoding layers and grouping are each other's inverse."""

import keras
import numpy as np
import pytest

from bodypose_tools.data.labels import LabelSettings, draw_affinity, draw_heatmaps, loss_mask
from bodypose_tools.networks.decoding import (
    DecodeSettings,
    LimbScorer,
    PeakDecoder,
    decode_fields,
)
from bodypose_tools.networks.fields import Fields
from pose_runtime.grouping import group_poses
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import GroupingSettings
from tests.unit.tools.people import person

HW = (288, 384)
LABELS = LabelSettings()
GROUPING = GroupingSettings(min_joints=1)


@pytest.fixture(scope="module")
def decoder():
    heatmaps, affinity = keras.Input((72, 96, 19)), keras.Input((36, 48, 38))
    fields = Fields((heatmaps,), (affinity,))
    decoded = decode_fields(fields, BODYPOSE_18, DecodeSettings(), HW)
    return keras.Model([heatmaps, affinity], list(decoded))


def drawn_heatmaps(people: np.ndarray) -> np.ndarray:
    return draw_heatmaps(people, BODYPOSE_18, HW, LABELS)


def drawn_affinity(people: np.ndarray) -> np.ndarray:
    return draw_affinity(people, BODYPOSE_18, HW, LABELS)


def decoded(decoder, people: np.ndarray) -> list[np.ndarray]:
    fields = [drawn_heatmaps(people)[None], drawn_affinity(people)[None]]
    return [np.asarray(out)[0] for out in decoder.predict_on_batch(fields)]


@pytest.fixture(scope="module")
def find(decoder):
    def find(people: np.ndarray) -> np.ndarray:
        peaks, limb_scores = decoded(decoder, people)
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
    peaks = decoded(decoder, joint)[0]
    assert np.abs(peaks[0, 0, :2] - joint[0, 0, :2]).max() < 0.05


def test_rows_without_a_peak_score_zero(decoder):
    peaks, limb_scores = decoded(decoder, np.zeros((0, 18, 3), np.float32))
    assert not peaks[..., 2].any()
    assert not limb_scores.any()


def test_overlapping_limbs_are_averaged_and_not_overwritten():
    right = np.zeros((18, 3), np.float32)
    right[1], right[8] = (100, 100, 2), (200, 100, 2)
    down = np.zeros((18, 3), np.float32)
    down[1], down[8] = (150, 50, 2), (150, 150, 2)
    both = drawn_affinity(np.stack([right, down]))
    assert both[100 // 8, 150 // 8, :2].tolist() == [0.5, 0.5]
    one = drawn_affinity(right[None])
    assert one[100 // 8, 150 // 8, :2].tolist() == [1, 0]
    assert both[100 // 8, 110 // 8, :2].tolist() == [1, 0]


def test_a_peak_lies_in_the_middle_of_the_limb_that_starts_there():
    joints = np.zeros((1, 18, 3), np.float32)
    joints[0, 1], joints[0, 8] = (98, 100, 2), (98, 200, 2)
    heat = drawn_heatmaps(joints)[:, :, 1]
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row * 4 + 2, column * 4 + 2) == (102 if row == 25 else 98, 98)
    limb = np.flatnonzero(drawn_affinity(joints)[row // 2, :, 1])
    assert limb.mean() * 8 + 4 == pytest.approx(98, abs=4)


def test_background_is_what_no_joint_covers():
    heatmaps = drawn_heatmaps(person(100, 80)[None])
    assert np.allclose(heatmaps[:, :, 18], 1 - heatmaps[:, :, :18].max(axis=2))


def test_an_eye_has_a_narrower_gaussian_than_a_hip():
    joints = np.zeros((1, 18, 3), np.float32)
    eye, hip = BODYPOSE_18.joints.index("left_eye"), BODYPOSE_18.joints.index("left_hip")
    joints[0, [eye, hip]] = (98, 98, 2)
    heatmaps = drawn_heatmaps(joints)
    assert heatmaps[24, 24, [eye, hip]].tolist() == [1, 1]
    assert heatmaps[24, 25, eye] == pytest.approx(np.exp(-16 / (2 * 3.0**2)), abs=1e-3)
    assert heatmaps[24, 25, hip] > heatmaps[24, 25, eye] + 0.2


def test_ignored_boxes_are_masked_except_where_someone_is_drawn():
    drawn = person(100, 80)[None]
    boxes = np.float32([[0, 0, 160, 288]])
    mask = loss_mask(boxes, drawn_heatmaps(drawn), drawn_affinity(drawn))[:, :, 0]
    assert mask[:, 21:].all()
    assert not mask[:, :8].any()
    assert mask[(88 // 8), (120 // 8)] == 1


NECK, HIP = BODYPOSE_18.limbs[0]


def test_a_limb_with_one_end_is_not_drawn():
    for there in (NECK, HIP):
        joints = np.zeros((1, 18, 3), np.float32)
        joints[0, there] = 100, 100, 2
        assert not drawn_affinity(joints).any()


def test_two_people_on_one_place_are_no_more_than_one():
    joints = np.zeros((2, 18, 3), np.float32)
    joints[:, 0] = (100, 100, 2), (104, 100, 2)
    both = drawn_heatmaps(joints)[:, :, 0]
    alone = [drawn_heatmaps(joints[place : place + 1])[:, :, 0] for place in (0, 1)]
    assert both.max() <= 1
    assert np.array_equal(both, np.maximum(*alone))


def on_a_limb(cells: int, **settings) -> float:
    """The first limb's score, over 10 cells of which the first so many have the full field."""
    fields = np.zeros((1, 36, 48, 38), np.float32)
    fields[0, 10, 10 : 10 + cells, 0] = 1
    peaks = np.zeros((1, 18, 2, 3), np.float32)
    peaks[0, NECK, 0] = 10.5 * 8, 10.5 * 8, 0.9
    peaks[0, HIP, 0] = 19.5 * 8, 10.5 * 8, 0.9
    chosen = DecodeSettings(**settings)
    scorer = LimbScorer(
        BODYPOSE_18.limbs, chosen.num_samples, chosen.min_affinity, chosen.min_on_limb
    )
    return float(np.asarray(scorer(fields, peaks))[0, 0, 0, 0])


def test_a_limb_needs_enough_of_its_points_on_it():
    """Ten points, the centres of ten cells; eight of them must lie on the limb."""
    assert on_a_limb(10) == pytest.approx(1.0)
    assert on_a_limb(8) == pytest.approx(0.8)
    assert on_a_limb(7) == 0
    assert on_a_limb(7, min_on_limb=0.7) == pytest.approx(0.7)


def test_a_weak_field_is_not_on_the_limb():
    assert on_a_limb(10, min_affinity=0.99) == pytest.approx(1.0)
    assert on_a_limb(10, min_affinity=1.0) == 0


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_centres_have_their_share_of_a_limb(share):
    """A centre of 0.64, and part affinity fields of nearly 1."""
    joints = person(100, 80, 1.5)
    heatmaps, affinity = drawn_heatmaps(joints[None]), drawn_affinity(joints[None])
    middle = (joints[:, :2].min(0) + joints[:, :2].max(0)) / 2
    column, row = (middle // 4).astype(int)
    centre, offsets = np.zeros((72, 96, 1), np.float32), np.zeros((72, 96, 36), np.float32)
    centre[row, column] = 0.64
    offsets[row, column] = (joints[:, :2] / 4 - (column + 0.5, row + 0.5)).ravel()
    inputs = [keras.Input(field.shape) for field in (heatmaps, affinity, centre, offsets)]
    fields = Fields((inputs[0],), (inputs[1],), inputs[2], inputs[3])
    settings = DecodeSettings(centre_share=share)
    decoded = keras.Model(inputs, list(decode_fields(fields, BODYPOSE_18, settings, HW)))
    given = [field[None] for field in (heatmaps, affinity, centre, offsets)]
    scores = np.asarray(decoded.predict_on_batch(given)[1])[0, :, 0, 0]
    by_field = np.asarray(
        keras.Model(
            inputs, decode_fields(fields, BODYPOSE_18, DecodeSettings(centre_share=0), HW)[1]
        ).predict_on_batch(given)
    )[0, :, 0, 0]
    assert by_field.min() > 0.7
    assert scores == pytest.approx((1 - share) * by_field + share * 0.64, abs=1e-4)


def peaks_by_hand(heat: np.ndarray) -> list[tuple[float, int, int]]:
    """Score, row and column of every cell that is above 0 and that no neighbour exceeds."""
    around = np.pad(heat, 1, constant_values=-1)
    return sorted(
        (
            (float(heat[row, column]), row, column)
            for row, column in np.ndindex(*heat.shape)
            if 0 < heat[row, column] >= around[row : row + 3, column : column + 3].max()
        ),
        reverse=True,
    )


def top_of_the_parabola(heat: np.ndarray, middle: int) -> float:
    """Where the parabola through the logarithms of three cells is highest; centres are at + 0.5."""
    logs = np.log(np.maximum(heat[middle - 1 : middle + 2].astype(float), 1e-4))
    square, slope, _ = np.polyfit([-1, 0, 1], logs, 2)
    return middle + 0.5 - slope / (2 * square)


@pytest.mark.parametrize("hw", [(8, 12), (9, 11), (7, 10)])
def test_the_best_peaks_of_each_joint_are_the_highest_cells_around(hw):
    """Two images of two joints; more peaks than rows, so that the weakest are left out."""
    heatmaps = np.random.default_rng(1).uniform(-0.2, 1, (2, *hw, 2)).astype(np.float32)
    heatmaps[0, 2, 3, 0] = 1.3

    peaks = np.asarray(PeakDecoder(6, stride=4)(heatmaps))

    assert peaks.shape == (2, 2, 6, 3)
    for image, joint in np.ndindex(2, 2):
        heat = heatmaps[image, :, :, joint]
        expected = peaks_by_hand(heat)
        assert len(expected) > 6
        for (x, y, score), (value, row, column) in zip(
            peaks[image, joint].tolist(), expected[:6], strict=True
        ):
            assert score == pytest.approx(min(value, 1))
            assert np.abs((x / 4 - column - 0.5, y / 4 - row - 0.5)).max() < 0.5001
            if 0 < column < hw[1] - 1:
                assert x / 4 == pytest.approx(top_of_the_parabola(heat[row], column), abs=1e-3)
            if 0 < row < hw[0] - 1:
                assert y / 4 == pytest.approx(top_of_the_parabola(heat[:, column], row), abs=1e-3)


@pytest.mark.parametrize("place", [0, 11])
def test_at_the_border_the_parabola_is_of_the_last_three_cells(place):
    """A Gaussian whose middle is half a cell, or less, from the border."""
    for off in (-0.3, 0.0, 0.4, 0.8):
        centre = place + 0.5 + off
        heat = np.exp(-((np.arange(12) + 0.5 - centre) ** 2) / 2)
        heatmaps = (heat[:, None] * heat).astype(np.float32)[None, :, :, None]
        x, y, score = np.asarray(PeakDecoder(3, stride=8)(heatmaps))[0, 0, 0].tolist()
        row = int(heat.argmax())
        expected = min(max(centre, row), row + 1)
        assert (x, y) == pytest.approx((8 * expected, 8 * expected), abs=1e-3)
        assert score == pytest.approx(float(heat.max()) ** 2, abs=1e-6)


@pytest.mark.parametrize("step", [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_of_equal_cells_the_upper_left_one_is_the_peak(step):
    heatmaps = np.zeros((1, 72, 96, 1), np.float32)
    cells = [(70, 90), (70 + step[0], 90 + step[1])]
    for cell in cells:
        heatmaps[0, *cell, 0] = 0.5
    peaks = np.asarray(PeakDecoder(3)(heatmaps))[0, 0]
    assert np.count_nonzero(peaks[:, 2]) == 1
    assert (peaks[0, :2] // 8).tolist() in ([90, 70], [91, 70], [90, 71])
    row, column = min(cells)
    assert np.abs(peaks[0, :2] / 8 - (column + 0.5, row + 0.5)).max() <= 0.5


def limb_score_by_hand(affinity, limb, first, second, samples, least, least_share):
    """Mean of the field along the line, looked up point by point."""
    height, width = affinity.shape[:2]
    start, end = (np.minimum(p[:2] / 8, (width - 0.01, height - 0.01)) for p in (first, second))
    line = end - start
    unit = line / max(np.linalg.norm(line), 1e-3)
    along = []
    for share in np.linspace(0, 1, samples):
        column, row = np.floor(start + share * line).astype(int)
        along.append(affinity[row, column, 2 * limb : 2 * limb + 2] @ unit)
    on_limb = sum(each > least for each in along)
    if min(first[2], second[2]) <= 0 or on_limb < round(least_share * samples):
        return 0.0
    return min(max(float(np.mean(along)), 0.0), 1.0)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_every_pair_of_peaks_has_the_mean_of_the_field_along_its_line(share):
    random = np.random.default_rng(5)
    limbs = ((0, 2), (2, 1))
    affinity = random.uniform(-0.4, 1.4, (2, 7, 9, 4)).astype(np.float32)
    peaks = random.uniform((0, 0, 0.1), (72, 56, 1), (2, 3, 4, 3)).astype(np.float32)
    peaks[0, :, 3, :2] = 72, 56  # on the lower right border
    peaks[0, :2, 2, :2] = peaks[0, 2, 2, :2]  # no line
    peaks[1, :, 1, 2] = 0  # no peak

    scores = np.asarray(LimbScorer(limbs, 10, 0.05, share)(affinity, peaks))

    assert scores.shape == (2, 2, 4, 4)
    expected = np.zeros(scores.shape)
    for image, limb, one, other in np.ndindex(*scores.shape):
        first, second = peaks[image, limbs[limb][0], one], peaks[image, limbs[limb][1], other]
        expected[image, limb, one, other] = limb_score_by_hand(
            affinity[image], limb, first, second, 10, 0.05, share
        )
    assert 10 < np.count_nonzero(expected) < 50
    assert scores == pytest.approx(expected, abs=1e-5)


def fields_with_centre(joints, centre, stages=1):
    """Ideal fields of a person of one image, its centre with that score."""
    heatmaps, affinity = drawn_heatmaps(joints[None]), drawn_affinity(joints[None])
    middle = (joints[:, :2].min(0) + joints[:, :2].max(0)) / 2
    column, row = (middle // 4).astype(int)
    centres, offsets = np.zeros((1, 72, 96, 1), np.float32), np.zeros((1, 72, 96, 36), np.float32)
    centres[0, row, column] = centre
    offsets[0, row, column] = (joints[:, :2] / 4 - (column + 0.5, row + 0.5)).ravel()
    others = (np.zeros_like(heatmaps)[None],) * (stages - 1)
    without = (np.zeros_like(affinity)[None],) * (stages - 1)
    return Fields((*others, heatmaps[None]), (*without, affinity[None]), centres, offsets)


def decoded_fields(fields):
    decoded = decode_fields(fields, BODYPOSE_18, DecodeSettings(), HW)
    return [np.asarray(each) for each in decoded]


def test_the_last_stage_is_decoded_and_nothing_is_added_to_it():
    fields = fields_with_centre(person(100, 80, 1.5), 0.0, stages=3)
    expected = np.asarray(PeakDecoder(20, 4)(fields.heatmaps[-1][..., :18]))

    for each in (fields, without_centre(fields)):
        peaks, scores = decoded_fields(each)
        assert peaks.shape == (1, 18, 20, 3)
        assert np.array_equal(peaks, expected)
        assert np.count_nonzero(scores > 0.2) == 19


@pytest.mark.parametrize(("centre", "share"), [(0.09, 0.0), (0.11, 0.7), (0.8, 0.7)])
def test_a_centre_below_a_tenth_is_not_used(centre, share):
    joints = person(100, 80, 1.5)
    by_field = decoded_fields(without_centre(fields_with_centre(joints, 0.0)))[1]

    scores = decoded_fields(fields_with_centre(joints, centre))[1]

    found = scores[0, :, 0, 0] - 0.3 * by_field[0, :, 0, 0]
    assert found == pytest.approx(np.full(19, share * centre), abs=1e-4)


def without_centre(fields):
    return Fields(fields.heatmaps, fields.affinity)


def test_a_peak_a_tenth_of_a_person_from_its_place_counts_half():
    """A wrist of 0.5 where it is expected, and one of 0.9 a fifth of the person away."""
    joints = person(100, 80, 1.5)
    fields = fields_with_centre(joints, 0.8)
    size = float(np.sqrt(np.prod(np.ptp(joints[:, :2], axis=0))))
    beside = joints.copy()
    beside[7, 0] += 0.2 * size
    heatmaps = fields.heatmaps[0].copy()
    for place, score in ((joints, 0.5), (beside, 0.9)):
        column, row = (place[7, :2] // 4).astype(int)
        heatmaps[0, row - 3 : row + 4, column - 3 : column + 4, 7] = 0
        heatmaps[0, row, column, 7] = score
    peaks, scores = decoded_fields(
        Fields((heatmaps,), fields.affinity, fields.centre, fields.offsets)
    )
    limb = scores[0, BODYPOSE_18.limbs.index((6, 7)), 0]
    assert peaks[0, 7, :2, 2].tolist() == pytest.approx([0.9, 0.5])
    assert limb[1] > 0.7 * 0.8 > limb[0]


@pytest.mark.parametrize("part", ["heatmaps", "affinity", "centre", "offsets"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_spoils_its_image_and_no_other(part, value):
    one = fields_with_centre(person(100, 80, 1.5), 0.8)
    two = {
        "heatmaps": np.repeat(one.heatmaps[0], 2, axis=0),
        "affinity": np.repeat(one.affinity[0], 2, axis=0),
        "centre": np.repeat(one.centre, 2, axis=0),
        "offsets": np.repeat(one.offsets, 2, axis=0),
    }
    two[part][1, -1, -1, -1] = value
    fields = Fields((two["heatmaps"],), (two["affinity"],), two["centre"], two["offsets"])

    peaks, _ = decoded_fields(fields)

    assert np.isfinite(peaks[0]).all()
    assert np.isnan(peaks[1]).all()
