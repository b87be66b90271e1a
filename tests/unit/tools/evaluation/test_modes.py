"""Views of an image in other frames say the same about it; only the served one is strict."""

import json

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.data.coco import read_coco
from bodypose_tools.data.labels import LabelSettings, draw_affinity, draw_centres, draw_heatmaps
from bodypose_tools.evaluation.field_frames import (
    Frame,
    MirrorError,
    in_frame,
    mirrored_limbs,
    unmirrored,
)
from bodypose_tools.evaluation.modes import (
    MULTI_SCALES,
    EvaluationMode,
    ModeError,
    evaluate_in_mode,
    field_decoder,
    field_network,
    find_people_in_mode,
    view_hw,
)
from bodypose_tools.evaluation.tune_grouping import (
    PERSON_SCORES,
    GroupingTuningError,
    read_grouping,
)
from bodypose_tools.networks.fields import Fields
from pose_runtime.letterbox import Letterbox
from pose_runtime.skeleton import BODYPOSE_18, Skeleton
from pose_runtime.spec import GroupingSettings, PipelineSpec
from tests.drawn import DRAWN, HEIGHT, WIDTH

HW = (160, 224)
SPEC = PipelineSpec(network_hw=HW)


def drawn_fields(people: np.ndarray, network_hw: tuple[int, int]) -> list[np.ndarray]:
    """The outputs, for one image, of a network that makes no mistake."""
    labels = LabelSettings()
    heatmaps = draw_heatmaps(people, BODYPOSE_18, network_hw, labels)
    boxes = people[:, :, :2].min(axis=1), people[:, :, :2].max(axis=1)
    middles = np.concatenate([(boxes[0] + boxes[1]) / 2, np.ones((len(people), 1))], axis=1)
    centre = draw_centres(middles.astype(np.float32), network_hw, labels)
    offsets = np.zeros((*centre.shape[:2], 36), np.float32)
    rows, columns = np.indices(centre.shape[:2]) + 0.5
    nearest = np.argmin(
        [(rows * 4 - y) ** 2 + (columns * 4 - x) ** 2 for x, y, _ in middles], axis=0
    )
    offsets[..., 0::2] = people[nearest][..., 0] / 4 - columns[..., None]
    offsets[..., 1::2] = people[nearest][..., 1] / 4 - rows[..., None]
    affinity = draw_affinity(people, BODYPOSE_18, network_hw, labels)
    return [field[None].astype(np.float32) for field in (heatmaps, affinity, centre, offsets)]


def seen(people: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    placed = people.copy()
    placed[:, :, :2] = letterbox.to_network(people[:, :, :2])
    return placed


def mirrored(people: np.ndarray, width: int) -> np.ndarray:
    """The same people in the mirror picture, right and left exchanged."""
    turned = people[:, list(BODYPOSE_18.mirror)].copy()
    turned[:, :, 0] = width - turned[:, :, 0]
    return turned


def fields_of(outputs: list[np.ndarray]) -> Fields:
    heatmaps, affinity, centre, offsets = (output[0] for output in outputs)
    return Fields((heatmaps,), (affinity,), centre, offsets)


def parts(fields: Fields) -> list[np.ndarray]:
    return [fields.heatmaps[0], fields.affinity[0], fields.centre, fields.offsets]


def test_the_mirror_pictures_fields_become_the_images_own():
    people = np.stack(DRAWN[2])
    expected = fields_of(drawn_fields(people, HW))
    got = unmirrored(fields_of(drawn_fields(mirrored(people, HW[1]), HW)), BODYPOSE_18)
    for one, other in zip(parts(expected), parts(got), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_skeleton_that_is_not_its_own_mirror_is_refused_for_flip():
    odd = Skeleton(
        name="odd",
        joints=("head", "left", "right"),
        limbs=((0, 1),),
        mirror=(0, 2, 1),
        sigmas=(0.1,) * 3,
        annotated=(0, 1, 2),
    )
    with pytest.raises(MirrorError, match="expected a limb from head to right beside head to left"):
        mirrored_limbs(odd)


def test_a_limb_that_turns_round_in_the_mirror_changes_its_sign():
    places, signs = mirrored_limbs(
        Skeleton("pair", ("left", "right"), ((0, 1),), (1, 0), (0.1,) * 2, (0, 1))
    )
    assert (places.tolist(), signs.tolist()) == ([0], [-1])


def test_fields_of_another_scale_lie_where_they_should():
    """A field whose value is the image's x stays that, whatever the frame."""
    image_hw = (150, 200)
    small, large = (Frame(hw, Letterbox.fit(image_hw, hw)) for hw in ((96, 160), (288, 384)))

    def ramp(frame: Frame, stride: int, axis: int) -> np.ndarray:
        rows, columns = (np.indices([side // stride for side in frame.network_hw]) + 0.5) * stride
        return frame.letterbox.to_image(np.stack([columns, rows], axis=2))[:, :, axis, None]

    fields = Fields((ramp(small, 4, 0),), (ramp(small, 8, 1),))
    moved = in_frame(fields, small, large)
    for got, stride, axis in ((moved.heatmaps[0], 4, 0), (moved.affinity[0], 8, 1)):
        expected = ramp(large, stride, axis)
        assert got.shape == expected.shape
        inside = (slice(6, -6), slice(6, -6))  # edges are repeated
        np.testing.assert_allclose(got[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize(
    "mode",
    [
        EvaluationMode(),
        EvaluationMode(flip=True),
        EvaluationMode(scales=MULTI_SCALES),
        EvaluationMode(scales=MULTI_SCALES, keep_aspect=True, flip=True),
    ],
    ids=str,
)
def test_every_mode_finds_the_people_of_ideal_fields(drawn_coco, mode):
    records = read_coco(drawn_coco / "people.json", drawn_coco, BODYPOSE_18)
    calls: list[tuple[int, int]] = []

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        """Looks at where the views differ: which of the two images, how large, mirrored or not."""
        hw = pixels.shape[1:3]
        people = seen(record_now[0].joints, Letterbox.fit((HEIGHT, WIDTH), hw))
        is_mirrored = mode.flip and len(calls) % 2 == 1
        calls.append(hw)
        return drawn_fields(mirrored(people, hw[1]) if is_mirrored else people, hw)

    decode = field_decoder(SPEC)
    for record in records:
        record_now = [record]
        calls.clear()
        [(_, poses)] = find_people_in_mode(run, decode, [record], SPEC, mode)
        assert len(poses) == len(record.joints)
        assert len(calls) == len(mode.scales) * (2 if mode.flip else 1)
        for joints in record.joints:
            gaps = np.abs(poses.keypoints[:, :, :2] - joints[:, :2]).max(axis=(1, 2))
            assert gaps.min() < 2.0


@pytest.mark.parametrize(
    ("image_hw", "keep_aspect", "scale", "expected"),
    [
        ((480, 640), False, 1, (288, 384)),
        ((480, 640), False, 0.5, (160, 192)),
        ((480, 640), True, 1, (288, 384)),
        ((640, 480), True, 1, (384, 288)),
        ((480, 1000), True, 1, (288, 608)),
        ((640, 480), True, 2, (768, 576)),
    ],
)
def test_the_input_size_of_a_view(image_hw, keep_aspect, scale, expected):
    mode = EvaluationMode((scale,), keep_aspect)
    assert view_hw(image_hw, (288, 384), mode, scale) == expected


def test_other_modes_than_strict_need_a_keras_file(drawn_coco, tmp_path):
    flip = EvaluationMode(flip=True)
    with pytest.raises(ModeError, match=r"expected a \.keras file for padded, scales 1, flip"):
        evaluate_in_mode(tmp_path / "model.onnx", drawn_coco / "people.json", drawn_coco, flip)


def test_strict_excludes_the_other_modes(drawn_coco):
    arguments = ["evaluate", "model.keras", "-a", "people.json", "-i", str(drawn_coco)]
    result = CliRunner().invoke(app, [*arguments, "--strict", "--flip"])
    assert result.exit_code == 2
    assert "--strict excludes" in result.output


def test_thresholds_come_from_the_file_of_tune_grouping(tmp_path):
    chosen = GroupingSettings(0.2, 0.1, 3)
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"grouping": {**vars_of(chosen)}, "ap": 0.5}))
    assert read_grouping(path) == chosen
    path.write_text("{}")
    with pytest.raises(GroupingTuningError, match="expected what `tools tune-grouping -o` writes"):
        read_grouping(path)


def vars_of(settings: GroupingSettings) -> dict[str, float]:
    return {name: getattr(settings, name) for name in settings.__slots__}


def test_person_scores_are_what_they_are_called():
    found = np.float32([0.9, 0.5, 0.4])
    scores = {name: formula(found, 12) for name, formula in PERSON_SCORES.items()}
    assert scores == pytest.approx(
        {"mean x sqrt(n / J)": 0.3, "mean": 0.6, "sum / J": 0.15, "best joint": 0.9}
    )


def test_a_network_sees_images_of_several_sizes():
    """Its upsampling needs sides that are known when it compiles."""
    images = keras.Input((None, None, 3), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 256)(images)
    halved = keras.layers.Conv2D(2, 3, strides=2, padding="same")(scaled)
    upsampled = keras.layers.UpSampling2D(2, interpolation="bilinear")(halved)
    network = keras.Model(images, [halved, upsampled])
    run = field_network(network)
    for hw in ((32, 64), (64, 32), (32, 32)):
        pixels = np.zeros((1, *hw, 3), np.uint8)
        expected = np.asarray(network(pixels)[-1])
        np.testing.assert_allclose(run(pixels)[-1], expected, atol=1e-4)


@pytest.mark.slow
def test_input_sizes_are_compared_with_the_networks_own(drawn_coco, tiny_keras, tmp_path):
    data = ["-a", str(drawn_coco / "people.json"), "-i", str(drawn_coco), "-d", "96,128,3"]
    command = ["compare-sizes", str(tiny_keras), *data]

    result = CliRunner().invoke(app, [*command, "--json", str(tmp_path / "sizes.json")])

    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "sizes.json").read_text())["modes"]
    assert [row["mode"] for row in rows] == ["160 x 224", "96 x 128"]
    assert rows[0]["latency_ratio"] == 1
