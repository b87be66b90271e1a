import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.quantisation.comparison import (
    ComparisonError,
    compare_models,
    joint_shifts,
    pixels_for,
    save_pixels,
)
from bodypose_tools.quantisation.polygraphy_files import RunnerOutputs, save_outputs
from pose_runtime.spec import PipelineSpec


def test_a_joints_shift_is_the_way_to_the_nearest_of_the_other_model():
    peaks = np.zeros((1, 2, 2, 3), np.float32)
    peaks[0, 0, 0] = 10, 10, 0.9
    peaks[0, 1, 0] = 5, 5, 0.9
    others = np.zeros_like(peaks)
    others[0, 0] = [[40, 10, 0.9], [13, 14, 0.5]]
    assert joint_shifts(peaks, others, 0.1).tolist() == [5.0]  # joint 1 has no other peak


@pytest.mark.slow
def test_a_model_is_not_far_from_itself(tmp_path):
    out = tmp_path / "compared.json"
    files = (str(SHIPPED_MODEL), str(SHIPPED_MODEL))
    result = CliRunner().invoke(app, ["compare", *files, "--json", str(out)])
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    assert record["joints"]["agreement"] == 1
    assert record["joints"]["shift_px"] == {"median": 0, "p95": 0, "max": 0}


# files that Polygraphy exchanges

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)


@pytest.fixture
def tiny(tmp_path, tiny_onnx):
    return tiny_onnx(tmp_path / "tiny.onnx", SPEC)


def test_outputs_saved_elsewhere_are_a_side_of_the_comparison(tiny, tmp_path):
    itself = compare_models(tiny, tiny, IMAGES)
    itself.save_outputs(tmp_path / "elsewhere.json")

    compared = compare_models(tiny, tmp_path / "elsewhere.json", IMAGES)

    assert compared.record()["joints"]["agreement"] == 1
    assert compared.other.name == "tiny.onnx"
    assert np.array_equal(compared.other.peaks, itself.one.peaks)
    with pytest.raises(ComparisonError, match=r"expected peaks \(1, 18, 3, 3\), got \(2, 18"):
        compare_models(tiny, tmp_path / "elsewhere.json", IMAGES[:1])


def test_outputs_of_another_network_are_refused(tiny, tmp_path):
    save_outputs(tmp_path / "o.json", [RunnerOutputs("r", [{"logits": np.zeros((1, 10))}], [0.1])])
    with pytest.raises(ComparisonError, match=r"o\.json: expected the outputs peaks and limb"):
        compare_models(tiny, tmp_path / "o.json", IMAGES)


def test_saved_pixels_come_back(tiny, tmp_path):
    save_pixels(tmp_path / "pixels.json", IMAGES)
    assert np.array_equal(pixels_for(tiny, None, tmp_path / "pixels.json"), IMAGES)


def test_pixels_of_another_size_are_refused(tiny, tmp_path):
    save_pixels(tmp_path / "pixels.json", IMAGES[:, :16])
    with pytest.raises(ComparisonError, match=r"expected `pixels` uint8 .*got uint8 \(1, 16, 48"):
        pixels_for(tiny, None, tmp_path / "pixels.json")
