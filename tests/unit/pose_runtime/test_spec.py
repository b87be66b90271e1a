from dataclasses import replace

import numpy as np
import pytest

from pose_runtime.errors import ContractError, SpecError
from pose_runtime.spec import GroupingSettings, PipelineSpec


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
