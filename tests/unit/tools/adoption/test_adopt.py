"""Networks of other projects, adopted: drawn ones, whose people are known."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from bodypose_tools.adoption.presets import PRESETS
from bodypose_tools.adoption.settings import PresetName
from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.grouping import people_in_image
from pose_runtime.letterbox import Letterbox
from pose_runtime.skeleton import BODYPOSE_18
from tests.commands import tools
from tests.unit.tools.foreign_networks import (
    COLOUR,
    DRAWN,
    Drawn,
    draw_fields,
    draw_heatmaps,
    people_for,
    picture,
    write_drawn_network,
    write_fields,
)
from tests.unit.tools.people import person

HW = (96, 128)
PLAIN = Drawn(HW, False, tuple(value / 255 for value in COLOUR), 8, 17, "batch")
PEOPLE = np.stack([person(8, 6, 0.8), person(70, 8, 0.8)])
HEATMAPS = draw_heatmaps(PEOPLE, HW, 8)
WITH_BACKGROUND = np.concatenate([HEATMAPS, 1 - HEATMAPS.max(axis=0, keepdims=True)])
FIELDS = draw_fields(PEOPLE, BODYPOSE_18, HW, 8)
SCALED = ("--colours", "rgb", "--mean", "0", "--std", "255")


def adopt(net: Path, *options: str | Path, code: int = 0) -> str:
    """The line that the command says; a failure's line on stderr."""
    out = net.with_suffix(".adopted.onnx")
    arguments = ["adopt", net, "-o", out, *options]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return str(result.exception) if code == 1 else result.output


def refused(net: Path, *options: str | Path) -> str:
    line = adopt(net, *options, code=1)
    assert "\n" not in line
    assert not net.with_suffix(".adopted.onnx").exists()
    return line


def found(net: Path) -> np.ndarray:
    """The people (N, J, 3) of the adopted network in a picture of `COLOUR`, left to right."""
    predict, spec, _ = open_predictor(net.with_suffix(".adopted.onnx"))
    hw = spec.network_hw
    peaks, limb_scores = predict(np.full((3, *hw, 3), COLOUR, np.uint8))
    assert np.array_equal(peaks[0], peaks[2])
    geometry = Letterbox.fit(hw, hw).to_geometry()
    poses = people_in_image(peaks[0], limb_scores[0], geometry, spec)
    return poses.keypoints[np.argsort(poses.keypoints[:, 0, 0])]


def assert_same_people(people: np.ndarray, expected: np.ndarray) -> None:
    assert people.shape == expected.shape
    assert np.abs(people[..., :2] - expected[..., :2]).max() < 0.5
    assert people[..., 2].min() > 0.5


@pytest.fixture
def net(tmp_path) -> Path:
    """Where a test writes its network."""
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("preset", PresetName)
def test_a_network_in_a_projects_layout_finds_its_people(preset, net):
    write_drawn_network(net, preset)

    said = adopt(net, "--preset", preset)

    assert_same_people(found(net), people_for(preset))
    assert PRESETS[preset].skeleton.name in said


def test_feet_do_not_keep_a_network_from_being_scored_on_coco(net, tmp_path):
    preset = PresetName.OPENPOSE_BODY25
    write_drawn_network(net, preset)
    adopt(net, "--preset", preset)
    skeleton, people = PRESETS[preset].skeleton, people_for(preset)
    (height, width), coco = DRAWN[preset].hw, BODYPOSE_18.annotated_joints
    labels = people[:, [skeleton.joints.index(joint) for joint in coco]] - [0.5, 0.5, 0]
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "num_keypoints": 17,
            "keypoints": joints.ravel().tolist(),
            "bbox": [0, 0, 100, 250],
            "area": 25000,
        }
        for number, joints in enumerate(labels, 1)
    ]
    assert cv2.imwrite(str(tmp_path / "1.png"), picture(preset)[::2, ::2, ::-1])
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(coco)}],
    }
    (tmp_path / "people.json").write_text(json.dumps(content))

    model = net.with_suffix(".adopted.onnx")
    said = tools("evaluate", model, "-a", tmp_path / "people.json", "-i", tmp_path)

    assert "AP     1.000" in said


def test_the_record_names_the_convention_and_the_file(net):
    write_drawn_network(net, PresetName.TAO)
    adopt(net, "--preset", "tao", "--max-peaks", "7")
    made = Artifact.open(net.with_suffix(".adopted.onnx"))
    assert made.stage == "adopt"
    assert made.parents == (Artifact.open(net).sha256,)
    assert made.settings["convention"]["colours"] == "rgb"
    assert made.settings["strides"] == {"heatmaps": 8, "affinity": 8}
    assert spec_in_onnx(made.path).max_peaks == 7


def test_adopting_twice_gives_the_same_bytes(net):
    write_drawn_network(net, PresetName.LIGHTWEIGHT_OPENPOSE)
    made = net.with_suffix(".adopted.onnx")
    adopt(net, "--preset", "lightweight-openpose")
    first = made.read_bytes()
    adopt(net, "--preset", "lightweight-openpose")
    assert made.read_bytes() == first


def plain(net: Path, **changes: object) -> Path:
    """A network of 18 joints in no project's layout."""
    drawn = replace(PLAIN, **changes)
    return write_fields(net, drawn, {"heat": WITH_BACKGROUND, "paf": FIELDS})


def test_without_a_preset_the_options_describe_a_network(net):
    plain(net, scaled=tuple(reversed(PLAIN.scaled)))
    adopt(net, "--colours", "bgr", "--mean", "0", "--std", "255", "--background", "last")
    assert_same_people(found(net), PEOPLE)


@pytest.mark.parametrize("nhwc", [False, True])
def test_mean_and_std_of_each_channel_follow_the_networks_order(nhwc, net):
    blue, green, red = COLOUR[::-1]
    scaled = ((blue - 1) / 2, (green - 20) / 30, (red - 50) / 70)
    plain(net, scaled=scaled, nhwc=nhwc)
    adopt(
        *(net, "--colours", "bgr", "--mean", "1,20,50", "--std", "2,30,70"),
        *("--background", "last", "--heatmaps", "heat", "--affinity", "paf"),
    )
    assert_same_people(found(net), PEOPLE)


def test_the_first_heatmap_may_be_the_background(net):
    fields = {"heat": np.roll(WITH_BACKGROUND, 1, axis=0), "paf": FIELDS}
    write_fields(net, PLAIN, fields)
    adopt(net, *SCALED, "--background", "first")
    assert_same_people(found(net), PEOPLE)


def test_channels_in_any_order_are_put_in_the_skeletons(net):
    rng = np.random.default_rng(0)
    joints, fields = rng.permutation(19)[:18], rng.permutation(38)
    heat, paf = np.zeros_like(WITH_BACKGROUND), np.zeros_like(FIELDS)
    heat[joints], paf[fields] = HEATMAPS, FIELDS
    write_fields(net, PLAIN, {"heat": heat, "paf": paf})
    adopt(
        *(net, *SCALED, "--joint-channels", ",".join(map(str, joints))),
        *("--field-channels", ",".join(map(str, fields))),
    )
    assert_same_people(found(net), PEOPLE)


def test_y_may_come_before_x(net):
    rows_first = FIELDS.reshape(-1, 2, *FIELDS.shape[1:])[:, ::-1].reshape(FIELDS.shape)
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": rows_first})
    adopt(net, *SCALED, "--field-order", "yx")
    assert_same_people(found(net), PEOPLE)


@pytest.mark.parametrize(
    ("limbs", "options"),
    [
        (range(19), ("--direction", "backwards")),
        ((3, 0), ("--backwards", "0,3")),
        ((0, 1, 2), ("--direction", "backwards", "--backwards", ",".join(map(str, range(3, 19))))),
    ],
)
def test_fields_may_point_back(limbs, options, net):
    turned = FIELDS.copy()
    for limb in limbs:
        turned[2 * limb : 2 * limb + 2] *= -1
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": turned})
    adopt(net, *SCALED, *options)
    assert_same_people(found(net), PEOPLE)


def test_fields_may_be_upsampled_to_pixels(net):
    fields = {
        "heat": draw_heatmaps(PEOPLE, HW, 1),
        "paf": draw_fields(PEOPLE, BODYPOSE_18, HW, 2),
    }
    write_fields(net, PLAIN, fields)
    said = adopt(net, *SCALED)
    assert "1 pixels in heatmaps and 2 in fields" in said
    assert_same_people(found(net), PEOPLE)


def test_a_tensor_inside_the_graph_can_be_named(net):
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": FIELDS, "other": WITH_BACKGROUND * 0})
    model = onnx.load(net)
    del model.graph.output[0]
    onnx.save(model, net)
    adopt(net, *SCALED, "--heatmaps", "heat")
    assert_same_people(found(net), PEOPLE)


def test_a_graph_with_uint8_pixels_scales_them_itself(net):
    write_fields(net, replace(PLAIN, scaled=COLOUR), {"heat": HEATMAPS, "paf": FIELDS})
    model = onnx.load(net)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    cast = helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT)
    for node in model.graph.node:
        node.input[:] = ["floats" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, cast)
    onnx.save(model, net)
    assert "takes uint8" in refused(net, *SCALED)
    adopt(net, "--colours", "rgb")
    assert_same_people(found(net), PEOPLE)


def test_a_float16_network_is_cast_at_its_ends(net):
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": FIELDS})
    model = onnx.load(net)
    for node in model.graph.node:  # the whole network in float16
        node.name = f"half/{node.name}"
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del model.graph.value_info[:]
    onnx.save(model, net)
    adopt(net, *SCALED)
    assert_same_people(found(net), PEOPLE)


def test_weights_in_a_file_beside_are_taken_in(net):
    plain(net)
    model = onnx.load(net)
    onnx.save(model, net, save_as_external_data=True, location="weights.bin", size_threshold=0)
    adopt(net, *SCALED, "--background", "last")
    net.with_name("weights.bin").unlink()
    assert_same_people(found(net), PEOPLE)


def test_person_centres_of_our_own_networks_are_used(tiny_keras, tmp_path):
    run = CliRunner().invoke
    raw, native = tmp_path / "raw.onnx", tmp_path / "native.onnx"
    for out, decoding in ((raw, ()), (native, ("--sdk_compatible_model",))):
        made = run(app, ["export", "-m", str(tiny_keras), "-o", str(out), *decoding])
        assert made.exit_code == 0, made.output
    adopt(raw, "--preset", "tao", "--centre", "centre", "--offsets", "offsets")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 160, 224, 3), np.uint8)
    ours, theirs = (
        open_predictor(path)[0](pixels) for path in (native, raw.with_suffix(".adopted.onnx"))
    )
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one, other, atol=1e-4)


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "--background first or last, because there are 19 heatmaps for 18 joints"),
        (("--background", "last"), "--colours rgb or bgr"),
        (("--background", "last", "--colours", "rgb"), "--mean and --std"),
        (("--background", "last", "--colours", "rgb", "--mean", "0"), "--mean and --std"),
        (("--background", "none"), "--background first or last"),
        (("--heatmaps", "heet"), "whose outputs are heat, paf; got heet"),
        (("--affinity", "pof"), "--affinity: expected a tensor of the graph"),
        (
            ("--heatmaps", "paf", "--affinity", "heat"),
            "--heatmaps: expected 18 or 19 channels for the skeleton, got paf with the shape 1x38",
        ),
        (("--heatmaps", "heat", "--affinity", "heat"), "--joint-channels and --field-channels"),
        (("--joint-channels", "0,1"), "--joint-channels: expected 18 different numbers"),
        (("--joint-channels", ",".join(map(str, range(5, 23)))), "channels from 0 to 18"),
        (("--background", "last", "--backwards", "19"), "limbs from 0 to 18, got 19"),
        (("--input", "picture"), "--input: expected one of image, got picture"),
        (("--input-layout", "nhwc"), "--input-layout: expected nchw by the shape ?x3x96x128"),
        (("-d", "128,128,3"), "expected 96,128,3, the size of image"),
        (("--centre", "heat"), "--centre and --offsets together"),
        (("--preset", "trt-pose"), "--affinity NAME, because 0 outputs have 42 channels"),
    ],
)
def test_what_the_graph_does_not_tell_is_asked_for_by_name(options, expected, net):
    plain(net)
    assert expected in refused(net, *options)


@pytest.mark.parametrize("text", ["a", "1,2", "0", "inf", "nan"])
def test_a_divisor_is_one_number_or_three_above_0(text, net):
    plain(net)
    assert "expected one number or three above 0" in adopt(net, "--std", text, code=2)


def with_sides(net: Path, *sides: int | str) -> Path:
    """The network with another shape declared for its input."""
    model = onnx.load(net)
    (value,) = model.graph.input
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, sides))
    onnx.save(model, net)
    return net


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((1, 3, "h", "w"), "expected --input-dims H,W,3, because image has the shape 1x3x?x?"),
        ((1, "a", "b", "c"), "expected --input-layout nchw or nhwc"),
        ((1, 3, 96, 3), "expected --input-layout nchw or nhwc"),
        ((1, 3, 90, 120), "multiples of 8, got 90 x 120"),
        ((1, 1, 96, 128), "an image of 3 channels, got the shape 1x1x96x128"),
        ((3, 96, 128), "expected four axes, got 3"),
        ((1, 3, 104, 152), "a whole number of pixels a cell"),
    ],
)
def test_an_input_that_fits_no_image_or_two_is_asked_about(sides, expected, net):
    plain(net)
    assert expected in refused(with_sides(net, *sides), *SCALED, "--background", "last")


def test_an_open_input_size_is_given(net):
    with_sides(plain(net), 1, 3, "h", "w")
    adopt(net, *SCALED, "--background", "last", "-d", "96,128,3")
    assert_same_people(found(net), PEOPLE)


def test_two_outputs_that_are_no_stages_are_asked_about(net):
    write_fields(net, PLAIN, {"heat": HEATMAPS, "pooled": HEATMAPS, "paf": FIELDS})
    said = refused(net, *SCALED)
    assert "expected --heatmaps NAME, because 2 outputs have 18 or 19 channels" in said
    adopt(net, *SCALED, "--heatmaps", "heat")


def test_axes_that_fit_two_ways_are_asked_about(net):
    hw = (152, 152)
    heat = draw_heatmaps(PEOPLE, hw, 8)
    with_background = np.concatenate([heat, 1 - heat.max(axis=0, keepdims=True)])
    fields = {"heat": with_background, "paf": draw_fields(PEOPLE, BODYPOSE_18, hw, 8)}
    write_fields(net, replace(PLAIN, hw=hw), fields)
    options = (*SCALED, "--background", "last")
    assert "--output-layout nchw or nhwc, because heat has the shape 1x19x19x19" in refused(
        net, *options
    )
    adopt(net, *options, "--output-layout", "nchw")
    assert_same_people(found(net), PEOPLE)


def test_a_second_input_is_refused(net):
    plain(net)
    model = onnx.load(net)
    model.graph.input.append(helper.make_tensor_value_info("size", TensorProto.FLOAT, [1]))
    onnx.save(model, net)
    assert "expected --input NAME, because the graph has 2 inputs: image, size" in refused(net)
    assert "one input, got size besides image" in refused(net, "--input", "image")


@pytest.mark.parametrize(("elem_type", "name"), [(TensorProto.INT64, "int64"), (77, "type 77")])
def test_an_input_of_another_type_is_refused(net, elem_type, name):
    plain(net)
    model = onnx.load(net)
    model.graph.input[0].type.tensor_type.elem_type = elem_type
    onnx.save(model, net)
    assert f"expected float, float16 or uint8, got {name}" in refused(net)


def test_a_graph_for_one_image_at_a_time_is_refused(net):
    plain(net, batch=1)
    model = onnx.load(net)
    (maker,) = (node for node in model.graph.node if "heat" in node.output)
    maker.output[0] = "before"
    shape = onnx.numpy_helper.from_array(np.array([1, 19, 12, 16], np.int64), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Reshape", ["before", "shape"], ["heat"]))
    onnx.save(model, net)
    said = refused(net, *SCALED, "--background", "last")
    assert "export the network again with a batch of any size" in said


def test_a_graph_that_mixes_the_images_of_a_batch_is_refused(net):
    write_fields(net, PLAIN, {"before": HEATMAPS, "paf": FIELDS}, everywhere=True)
    model = onnx.load(net)
    first = onnx.numpy_helper.from_array(np.array([0], np.int64), "first")
    model.graph.initializer.append(first)
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["before"], ["shape"]),
            helper.make_node("Cast", ["shape"], ["sides"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["sides", "first"], ["images"]),
            helper.make_node("Div", ["before", "images"], ["heat"]),
        ]
    )
    model.graph.output[0].name = "heat"
    onnx.save(model, net)
    assert "the same peaks for an image alone and in a batch" in refused(net, *SCALED)


def test_fields_that_are_not_finite_are_refused(net):
    write_fields(net, PLAIN, {"heat": HEATMAPS * np.nan, "paf": FIELDS}, everywhere=True)
    assert "expected finite fields, got NaN or infinity" in refused(net, *SCALED)


def test_an_own_graph_has_its_decoding_layers(tiny_onnx, net):
    from pose_runtime.spec import PipelineSpec

    tiny_onnx(net, PipelineSpec(network_hw=(32, 48)))
    assert "expected a network without decoding layers" in refused(net)


@pytest.mark.parametrize("content", [b"", b"not a graph", bytes(200)])
def test_a_file_that_is_no_graph_is_refused(content, net):
    net.write_bytes(content)
    assert "expected an ONNX graph" in refused(net)


def test_a_missing_file_is_refused(net):
    assert "expected an ONNX file, got nothing there" in refused(net)


def test_control_flow_is_refused(net):
    plain(net)
    model = onnx.load(net)
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("then_branch", branch))
    onnx.save(model, net)
    line = refused(net)
    assert "If and Loop" in line or "expected an ONNX graph" in line


def test_names_of_what_we_add_are_refused_in_a_foreign_graph(net):
    write_fields(net, PLAIN, {"adopted/heatmaps": HEATMAPS, "paf": FIELDS})
    assert "whose name begins with adopted/, got 'adopted/heatmaps'" in refused(net, *SCALED)


def test_an_output_that_is_no_tensor_is_no_field(net):
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": FIELDS})
    model = onnx.load(net)
    model.graph.node.append(helper.make_node("SequenceConstruct", ["heat", "paf"], ["both"]))
    model.graph.output.append(helper.make_tensor_sequence_value_info("both", 1, None))
    onnx.save(model, net)
    assert "expected four axes, got both" in refused(net, *SCALED, "--heatmaps", "both")
    adopt(net, *SCALED)
    assert_same_people(found(net), PEOPLE)


def test_more_peaks_than_cells_are_refused(net):
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": FIELDS})
    said = refused(net, *SCALED, "--max-peaks", "49")
    assert "--max-peaks: expected at most 48, as heatmaps of 12 x 16 cells have, got 49" in said


def test_a_channel_given_to_two_joints_is_refused(net):
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": FIELDS})
    said = refused(net, *SCALED, "--joint-channels", ",".join(["0", *map(str, range(17))]))
    assert "expected 18 different numbers for the skeleton bodypose_18" in said


def test_sides_below_0_are_open(net):
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": FIELDS})
    model = onnx.load(net)
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = -1
    onnx.save(model, net)
    assert "expected --input-dims H,W,3" in refused(net, *SCALED)
    adopt(net, *SCALED, "-d", "96,128,3")
    assert_same_people(found(net), PEOPLE)


@pytest.mark.parametrize("beside", [False, True])
def test_what_would_fill_the_memory_is_refused_unread(net, beside):
    plain(net)
    large = net
    if beside:
        model = onnx.load(net)
        onnx.save(model, net, save_as_external_data=True, location="weights.bin", size_threshold=0)
        large = net.with_name("weights.bin")
    with large.open("r+b") as file:
        file.truncate(2**31 + 1)
    assert "more than 2147483648" in refused(net, *SCALED)


def test_every_preset_is_drawn():
    assert set(DRAWN) == set(PRESETS) == set(PresetName)
    assert json.dumps({name: preset.source for name, preset in PRESETS.items()})
