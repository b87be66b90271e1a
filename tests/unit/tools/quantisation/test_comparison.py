import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.quantisation.comparison import (
    ComparisonError,
    ModelComparison,
    ModelOutputs,
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


def side(name, peaks, limb_scores):
    return ModelOutputs(name, name * 64, peaks, limb_scores, (0.1,))


def test_the_record_has_errors_of_outputs_and_shifts_of_joints():
    """Joint n is n pixels away, but the last, which the other model does not find."""
    spec = PipelineSpec(max_peaks=2)
    peaks = np.zeros((1, 18, 2, 3), np.float32)
    peaks[0, :, 0] = 50, 60, 0.75
    others = peaks.copy()
    others[0, :, 0, 0] += np.arange(18)
    others[0, 17] = 0
    limbs = np.zeros((1, 19, 2, 2), np.float32)
    other_limbs = limbs.copy()
    other_limbs[0, 3, 0, 0] = 0.5

    compared = ModelComparison(side("a", peaks, limbs), side("b", others, other_limbs), spec)
    record = compared.record()

    assert record["models"] == [
        {"name": "a", "sha256": "a" * 64},
        {"name": "b", "sha256": "b" * 64},
    ]
    assert record["images"] == 1
    assert record["outputs"] == {
        "peak scores": {"mean": round(0.75 / 36, 6), "max": 0.75},
        "limb_scores": {"mean": round(0.5 / 76, 6), "max": 0.5},
    }
    assert record["joints"]["compared"] == 17
    assert record["joints"]["shift_px"] == {"median": 8.0, "p95": 15.2, "max": 16.0}
    nothing = ModelComparison(
        side("a", peaks, limbs), side("b", np.zeros_like(peaks), limbs), spec
    ).record()["joints"]
    assert nothing["shift_px"] == {"median": None, "p95": None, "max": None}
    assert nothing["compared"] == 0


def test_saved_inputs_hold_an_image_at_least(tiny, tmp_path):
    save_pixels(tmp_path / "pixels.json", IMAGES[:0])
    with pytest.raises(ComparisonError, match="expected at least one image, got none"):
        pixels_for(tiny, None, tmp_path / "pixels.json")


def test_without_saved_inputs_a_folders_or_a_packaged_photo_is_compared_on(tiny, drawn_coco):
    assert pixels_for(tiny, drawn_coco, None).shape == (2, 32, 48, 3)
    assert pixels_for(tiny, None, None).shape[1:] == (32, 48, 3)
