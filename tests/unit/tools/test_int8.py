"""Calibration, placement and gates together, on tiny graphs and on the shipped network."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from tools.accuracy_gate import AccuracyGateError, Verdict
from tools.artifacts import Artifact
from tools.calibration import CalibrationError, Method, scales_of
from tools.cli import app
from tools.int8 import OnMiss, activations, layer_sensitivity, quantise
from tools.onnx_contract import spec_in_onnx
from tools.quantize import place, prepare
from tools.repository import SHIPPED_MODEL

from .tiny_graphs import Tiny

COCO = Path(os.environ.get("COCO_DIR", Path(__file__).parents[4] / "shared" / "coco"))
IMAGES = [np.random.default_rng(n).normal(size=(3, 8, 8)).astype(np.float32) for n in range(4)]


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def fragile():
    """Three layers; one of `b`'s input channels is a thousand times the others: bad for INT8."""
    tiny = Tiny()
    a = tiny.conv("a", tiny.stem(), (16, 16))
    factor = np.ones((1, 16, 1, 1), np.float32)
    factor[0, 3] = 1000
    wide = tiny.op("Mul", "wide", a, tiny.constant("factor", factor))
    b = tiny.conv("b", wide, (16, 16))
    weights = next(t for t in tiny.stored if t.name == "b_w")
    values = onnx.numpy_helper.to_array(weights).copy()
    values[:, 3] /= 1000
    weights.CopyFrom(onnx.numpy_helper.from_array(values, "b_w"))
    tiny.conv("head", tiny.conv("c", b, (16, 16)), (16, 19))
    model = prepare(tiny.model("head_out"))
    names = place(model).tensors
    return model, scales_of(names, activations(model, names), IMAGES, Method.MAX)


def error_judge(model: onnx.ModelProto, limit: float):
    expected = activations(model, ["head_out"])(IMAGES[0])[0]

    def judge(candidate: Path) -> Verdict:
        got = activations(onnx.load(candidate), ["head_out"])(IMAGES[0])[0]
        error = float(np.abs(got - expected).mean() / np.abs(expected).mean())
        return Verdict("relative error", error, limit, error <= limit)

    return judge


def test_the_layer_that_int8_hurts_most_comes_first(fragile):
    model, scales = fragile
    errors = layer_sensitivity(model, scales, IMAGES)
    assert next(iter(errors)) == "b"
    assert set(errors) == {"a", "b", "c"}


def test_a_missed_gate_is_an_error_that_names_the_layers(fragile):
    model, scales = fragile
    judges = [error_judge(model, 0.05)]
    with pytest.raises(AccuracyGateError, match=r"most sensitive layers: b \d"):
        quantise(model, scales, judges, OnMiss.REPORT, IMAGES, quiet)


def test_auto_mixed_moves_the_fewest_layers_to_float(fragile):
    model, scales = fragile
    made = quantise(model, scales, [error_judge(model, 0.05)], OnMiss.MIX, IMAGES, quiet)
    assert made.float_layers == ("b",)
    assert made.int8_layers == 2
    assert made.verdicts[0].passed


def test_what_passes_at_once_stays_all_int8(fragile):
    model, scales = fragile
    made = quantise(model, scales, [error_judge(model, 10.0)], OnMiss.MIX, IMAGES, quiet)
    assert made.float_layers == ()


def test_a_gate_that_no_graph_passes_is_an_error(fragile):
    model, scales = fragile
    with pytest.raises(AccuracyGateError, match="within -1"):
        quantise(model, scales, [error_judge(model, -1.0)], OnMiss.MIX, IMAGES, quiet)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Real photos of training people; a drawn person is none to the shipped network."""
    if not (COCO / "train").is_dir():
        pytest.skip("needs real COCO images: set COCO_DIR or put them at ../shared/coco")
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted((COCO / "train").glob("*.jpg"))[:8]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def export(out: Path, *options: str) -> object:
    files = ("-m", str(SHIPPED_MODEL), "-o", str(out), "--data_type", "int8")
    return CliRunner().invoke(app, ["export", *files, *options])


# All of the shipped model in INT8 keeps a third of its joints in place; the gate asks for 0.99.
LOW = "0.25"


@pytest.mark.coco
@pytest.mark.slow
def test_the_same_calibration_data_or_cache_gives_the_same_graph(photos, tmp_path):
    data, cache = tmp_path / "cal.h5", tmp_path / "cal.bin"
    size = ("--batches", "2", "--batch_size", "4", "--min_agreement", LOW)
    size += ("--cal_data_file", str(data))
    first, second, third = (tmp_path / f"{name}.onnx" for name in "123")
    result = export(first, *size, "--cal_image_dir", str(photos))
    assert result.exit_code == 0, result.output
    assert "97 layers INT8, 0 moved to float" in result.output
    assert export(second, *size, "--cal_cache_file", str(cache)).exit_code == 0
    assert export(third, *size, "--cal_cache_file", str(cache)).exit_code == 0
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    assert spec_in_onnx(first) == spec_in_onnx(SHIPPED_MODEL)
    settings = Artifact.open(first).settings
    assert settings["calibration"] == {"method": "percentile", "images": 8}
    assert settings["gates"][0]["passed"]


@pytest.mark.coco
@pytest.mark.slow
def test_a_naive_quantisation_does_not_pass(photos, tmp_path):
    """The scale of a saturated calibration: an eighth of what the activations reach."""
    cache = tmp_path / "cal.bin"
    size = ("--batches", "2", "--batch_size", "4", "--min_agreement", LOW)
    size += ("--cal_image_dir", str(photos))
    assert export(tmp_path / "good.onnx", *size, "--cal_cache_file", str(cache)).exit_code == 0
    header, *lines = cache.read_text().splitlines()
    names = [line.rpartition(": ")[0] for line in lines]
    naive = tmp_path / "naive.bin"
    naive.write_text("\n".join([header, *(f"{name}: 3b810204" for name in names)]) + "\n")
    result = export(tmp_path / "naive.onnx", *size, "--cal_cache_file", str(naive))
    assert isinstance(result.exception, AccuracyGateError)
    assert f"expected share of joints that stay within {LOW}" in str(result.exception)
    assert not (tmp_path / "naive.onnx").exists()


def test_calibration_needs_images(tmp_path):
    result = export(tmp_path / "model.onnx", "--batches", "1")
    assert isinstance(result.exception, CalibrationError)
    assert "tools sample-calibration-images" in " ".join(str(result.exception).split())
