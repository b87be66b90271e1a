import json
from dataclasses import replace

import numpy as np
import pytest

from pose_runtime.errors import ContractError, SpecError
from pose_runtime.spec import GroupingSettings, ImageLimits, PipelineSpec, TensorSpec


def test_json_and_back_is_the_same_pipeline():
    spec = PipelineSpec(network_hw=(224, 320), max_peaks=7, grouping=GroupingSettings(0.2, 0.1, 3))
    assert PipelineSpec.from_json(spec.with_model("ab").to_json()) == spec.with_model("ab")


def test_the_same_pipeline_is_the_same_text():
    assert PipelineSpec().to_json() == PipelineSpec().to_json()


def test_tensor_shapes_follow_from_the_pipeline():
    spec = PipelineSpec(max_peaks=5, max_people=9)
    assert spec.pixels.dims == (288, 384, 3)
    assert spec.peaks.dims == (18, 5, 3)
    assert spec.limb_scores.dims == (19, 5, 5)
    assert spec.keypoints.dims == (9, 18, 3)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"skeleton": {}}', '{"network_hw": [1]}'])
def test_another_text_is_refused_in_one_line(text):
    with pytest.raises(SpecError) as caught:
        PipelineSpec.from_json(text)
    assert "tools export" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"network_hw": (100, 384)}, {"max_people": 0}])
def test_a_contradiction_is_refused(change):
    with pytest.raises(SpecError):
        replace(PipelineSpec(), **change)


def test_a_tensor_says_what_was_expected_and_what_came():
    geometry = PipelineSpec().geometry
    assert geometry.check(np.zeros((2, 5), np.float32)).shape == (2, 5)
    with pytest.raises(ContractError, match=r"geometry: expected FP32 \(batch, 5\), got \(2, 4\)"):
        geometry.check(np.zeros((2, 4), np.float32))
    with pytest.raises(ContractError, match="got float64"):
        geometry.check(np.zeros((2, 5)))


def test_every_tensor_of_the_pipeline_has_its_type_and_sides():
    spec = PipelineSpec(network_hw=(64, 96), max_peaks=5, max_people=9)
    names = ("image", "pixels", "encoded", "geometry", "image_hw", "place")
    answers = ("peaks", "limb_scores", "keypoints", "scores", "num_people")
    assert [getattr(spec, name) for name in (*names, *answers)] == [
        TensorSpec("image", "BYTES", (1,)),
        TensorSpec("pixels", "UINT8", (64, 96, 3)),
        TensorSpec("encoded", "BYTES", (1,)),
        TensorSpec("geometry", "FP32", (5,)),
        TensorSpec("image_hw", "INT32", (2,)),
        TensorSpec("place", "INT64", (2,)),
        TensorSpec("peaks", "FP32", (18, 5, 3)),
        TensorSpec("limb_scores", "FP32", (19, 5, 5)),
        TensorSpec("keypoints", "FP32", (9, 18, 3)),
        TensorSpec("scores", "FP32", (9,)),
        TensorSpec("num_people", "INT32", (1,)),
    ]
    optional = [name for name in (*names, *answers) if getattr(spec, name).is_optional]
    assert optional == ["place"]


@pytest.mark.parametrize("shape", [(), (5,), (2, 5, 1), (2, 5, 5)])
def test_a_batch_has_one_side_more_than_the_tensor(shape):
    with pytest.raises(ContractError, match=r"geometry: expected FP32 \(batch, 5\), got \("):
        PipelineSpec().geometry.check(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("kind", "name", "accepted", "refused"),
    [
        (ImageLimits, "max_bytes", (1, 2**40), (0, -1, True, 2.0, "7")),
        (ImageLimits, "max_pixels", (1, 2**40), (0, -1, True, 2.0, None)),
        (ImageLimits, "max_decode_ms", (1, 2**40), (0, -1, False, 2.0)),
        (ImageLimits, "formats", (("BMP",), ("JPEG", "PNG")), ((), ("GIF",), ("JPEG", "GIF"))),
        (GroupingSettings, "min_peak_score", (0, 1, 0.5), (-0.01, 1.01, True, "0.5", None)),
        (GroupingSettings, "min_limb_score", (0, 1, 0.5), (-0.01, 1.01, False, float("nan"))),
        (GroupingSettings, "min_joints", (0, 1000), (-1, 1001, True, 2.0)),
        (
            PipelineSpec,
            "network_hw",
            ((8, 8), (8192, 8), (8, 8192)),
            ((0, 8), (8, 0), (-8, 8), (12, 8), (8, 12), (8200, 8), (8, 8200)),
        ),
        (PipelineSpec, "max_peaks", (1, 1000), (0, 1001)),
        (PipelineSpec, "max_people", (1, 1000), (0, 1001)),
    ],
)
def test_the_bounds_of_each_field(kind, name, accepted, refused):
    for value in accepted:
        assert getattr(kind(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(SpecError, match=name):
            kind(**{name: value})


def test_a_pipelines_file_of_before_two_limits_has_their_defaults():
    raw = json.loads(PipelineSpec().to_json())
    del raw["limits"]["formats"], raw["limits"]["max_decode_ms"]
    assert PipelineSpec.from_json(json.dumps(raw)) == PipelineSpec()
    raw["network_hw"] = ["64", 96.0]
    assert PipelineSpec.from_json(json.dumps(raw)).network_hw == (64, 96)


def test_what_was_wrong_in_a_file_is_told_in_200_characters():
    raw = json.loads(PipelineSpec().to_json())
    raw["skeleton"]["joints"] = ["x" * 50] * 18
    for broken, what in ((raw, "skeleton bodypose_18: joint names"), ({"a" * 300: 1}, "KeyError(")):
        with pytest.raises(SpecError) as caught:
            PipelineSpec.from_json(json.dumps(broken))
        start = "pipeline description: expected what `tools export` writes, got "
        assert str(caught.value).startswith(start + what)
        told = str(caught.value).removeprefix(start).removesuffix("; run `tools export` again")
        assert len(told) == 200 or what == "KeyError("


def test_limits_are_changed_field_by_field():
    spec = PipelineSpec().with_limits(ImageLimits(max_bytes=5), {"max_pixels": 7})
    assert spec.limits == ImageLimits(max_bytes=5, max_pixels=7)
    assert (ImageLimits().max_bytes, ImageLimits().max_pixels) == (16_777_216, 40_000_000)
    assert ImageLimits().max_decode_ms == 500


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8, np.bool_])
def test_a_tensor_of_another_type_is_refused(dtype):
    with pytest.raises(ContractError, match=f"expected FP32 .*, got {np.dtype(dtype)} "):
        PipelineSpec().geometry.check(np.zeros((2, 5), dtype))


def test_what_grouping_takes_unless_it_is_told_otherwise():
    assert GroupingSettings() == GroupingSettings(0.1, 0.05, 2)
