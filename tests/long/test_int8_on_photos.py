"""INT8 of the shipped network, calibrated on real photos: a minute."""

from pathlib import Path

import onnx
import pytest

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.graphs.quantised import has_unsigned_activations
from bodypose_tools.quantisation.gate import AccuracyGateError
from bodypose_tools.quantisation.placement import place, prepare
from bodypose_tools.runtimes.cpu import int8_warning
from tests.coco import training_photos
from tests.unit.tools.quantisation.test_search import export


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Real ones, because a drawn person is none to the shipped network."""
    return training_photos(tmp_path_factory.mktemp("photos"))


# What these tests are about needs no good graph, so that the gate lets it pass at once.
LOW = "0.25"


@pytest.mark.coco
def test_the_same_calibration_data_or_cache_gives_the_same_graph(photos, tmp_path):
    data, cache = tmp_path / "cal.h5", tmp_path / "cal.bin"
    size = ("--batches", "2", "--batch_size", "2", "--min_agreement", LOW)
    size += ("--cal_data_file", str(data))
    first, second, third = (tmp_path / f"{name}.onnx" for name in "123")
    result = export(first, *size, "--cal_image_dir", str(photos))
    assert result.exit_code == 0, result.output
    layers = place(prepare(onnx.load(SHIPPED_MODEL))).layers
    assert f"{len(layers)} layers INT8, 0 moved to float" in result.output
    assert export(second, *size, "--cal_cache_file", str(cache)).exit_code == 0
    assert export(third, *size, "--cal_cache_file", str(cache)).exit_code == 0
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    assert spec_in_onnx(first) == spec_in_onnx(SHIPPED_MODEL)
    settings = Artifact.open(first).settings
    assert settings["calibration"] == {"method": "percentile", "images": 4}
    assert settings["gates"][0]["passed"]
    fourth = tmp_path / "4.onnx"
    result = export(fourth, *size, "--cal_cache_file", str(cache), "--unsigned_activations")
    assert "with the same --unsigned-activations" in str(result.exception)  # another graph
    result = export(fourth, *size, "--unsigned_activations")
    assert result.exit_code == 0, result.output
    finer = Artifact.open(fourth).settings
    assert (settings["unsigned_activations"], finer["unsigned_activations"]) == (False, True)
    assert has_unsigned_activations(onnx.load(fourth))
    assert (settings["gate_runtime"], finer["gate_runtime"]) == ("onnxruntime", "openvino")
    if int8_warning() is None:  # else OpenVINO's sums overflow
        assert finer["gates"][0]["value"] > settings["gates"][0]["value"]
    else:
        assert f"warning: {int8_warning()}" in result.output


@pytest.mark.coco
def test_a_naive_quantisation_does_not_pass(photos, tmp_path):
    """The scale of a saturated calibration: an eighth of what the activations reach."""
    cache, limit = tmp_path / "cal.bin", "0.9"
    options = ["--batches", "2", "--batch_size", "2", "--cal_image_dir", str(photos)]
    options += ["--min_agreement", limit]
    # A gate that is missed looks at every layer by itself, and there are 141.
    for layer in place(prepare(onnx.load(SHIPPED_MODEL))).layers[12:]:
        options += ["--float_layer", layer]
    assert export(tmp_path / "good.onnx", *options, "--cal_cache_file", str(cache)).exit_code == 0
    header, *lines = cache.read_text().splitlines()
    names = [line.rpartition(": ")[0] for line in lines]
    naive = tmp_path / "naive.bin"
    naive.write_text("\n".join([header, *(f"{name}: 3b810204" for name in names)]) + "\n")
    result = export(tmp_path / "naive.onnx", *options, "--cal_cache_file", str(naive))
    assert isinstance(result.exception, AccuracyGateError)
    assert f"expected share of joints that stay within {limit}" in str(result.exception)
    assert not (tmp_path / "naive.onnx").exists()
