import json
import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.data.photos import SampleImagesError, images_in, packaged_images
from bodypose_tools.export import onnx_from_keras as stage
from bodypose_tools.export.onnx_from_keras import ExportError, export_onnx
from bodypose_tools.files.artifacts import Artifact, StaleArtifactError, record_path
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.networks.decoding import DecodeSettings
from bodypose_tools.networks.keras_files import load_network, save_network
from bodypose_tools.networks.network import build_network
from bodypose_tools.networks.settings import NetworkConfig
from bodypose_tools.runtimes.cpu import onnx_session
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec

HW = (96, 128)
PIPELINE = PipelineSpec(network_hw=HW)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("model") / "untrained.keras"
    network = build_network(NetworkConfig(stages=2), BODYPOSE_18)
    save_network(network, path, "train", PIPELINE, settings={})
    return path


def export(model: Path, out: Path, **changes) -> tuple[Artifact, float]:
    options = {"network_hw": None, "decode": DecodeSettings(), "samples": packaged_images}
    return export_onnx(model, out, **(options | changes))


@pytest.fixture(scope="module")
def exported(model) -> tuple[Artifact, float]:
    return export(model, model.with_suffix(".onnx"))


def test_saving_and_loading_keeps_the_network(model):
    network, pipeline, _ = load_network(model)
    again, _, _ = load_network(model)
    assert pipeline == PIPELINE
    pixels = packaged_images(HW)
    for one, two in zip(
        network.predict_on_batch(pixels), again.predict_on_batch(pixels), strict=True
    ):
        assert np.array_equal(one, two)


def test_saving_twice_gives_the_same_bytes(tiny_keras, tmp_path):
    network = load_network(tiny_keras)[0]
    for name in ("one.keras", "two.keras"):
        save_network(network, tmp_path / name, "train", PIPELINE, settings={})
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()


def test_the_exported_graph_has_the_contracts_names_shapes_and_metadata(model, exported):
    made, difference = exported
    assert difference <= 0.5
    assert made.parents == (Artifact.open(model).sha256,)
    assert spec_in_onnx(made.path) == PIPELINE  # checks names, dtypes and dims
    graph = onnx.load(made.path).graph
    tensors = [*graph.input, *graph.output]
    assert [tensor.name for tensor in tensors] == ["pixels", "peaks", "limb_scores"]
    for tensor in tensors:
        assert tensor.type.tensor_type.shape.dim[0].dim_param  # any number of images


def test_any_batch_gives_what_single_images_give(exported):
    session = onnx_session(exported[0].path)
    pixels = packaged_images(HW)
    together = session.run(None, {"pixels": pixels})
    for row, image in enumerate(pixels):
        alone = session.run(None, {"pixels": image[None]})
        for one, many in zip(alone, together, strict=True):
            assert np.allclose(one[0], many[row], atol=1e-3)


def test_without_decoding_layers_the_fields_come_out(tiny_keras, tmp_path):
    made, difference = export(tiny_keras, tmp_path / "model.onnx", network_hw=HW, decode=None)
    session = onnx_session(made.path)
    fields = session.run(None, {"pixels": packaged_images(HW)[:1]})
    shapes = [(1, 24, 32, 19), (1, 12, 16, 38), (1, 24, 32, 1), (1, 24, 32, 36)]
    assert [field.shape for field in fields] == shapes
    names = ["heatmaps", "affinity", "centre", "offsets"]
    assert [output.name for output in session.get_outputs()] == names
    assert difference < 1e-2


def test_another_input_size_is_exported_for_that_size(tiny_keras, tmp_path):
    made, _ = export(tiny_keras, tmp_path / "model.onnx", network_hw=(64, 96))
    assert spec_in_onnx(made.path).network_hw == (64, 96)


def test_a_graph_that_says_something_else_is_not_written(tiny_keras, tmp_path, monkeypatch):
    honest = stage.converted

    def shifted(*arguments):
        graph = honest(*arguments)
        for initializer in graph.graph.initializer:
            values = onnx.numpy_helper.to_array(initializer)
            if values.ndim == 4 and values.dtype == np.float16:
                wrong = onnx.numpy_helper.from_array(values * np.float16(3), initializer.name)
                initializer.CopyFrom(wrong)
        return graph

    monkeypatch.setattr(stage, "converted", shifted)
    with pytest.raises(ExportError, match="nothing was written"):
        export(tiny_keras, tmp_path / "model.onnx", decode=None)
    assert list(tmp_path.iterdir()) == []


def test_a_peak_that_moves_or_vanishes_is_noticed():
    peaks = np.zeros((1, 2, 3, 3), np.float32)
    peaks[0, 0, 0] = 10, 10, 0.9
    moved = peaks.copy()
    moved[0, 0, 0, 0] = 10.6
    gone = np.zeros_like(peaks)
    assert stage._peak_shift(peaks, peaks, 0.1) == 0
    assert stage._peak_shift(peaks, moved, 0.1) == pytest.approx(0.6, abs=1e-5)
    assert stage._peak_shift(peaks, gone, 0.1) == float("inf")
    assert stage._peak_shift(gone, peaks, 0.1) == float("inf")
    assert stage._peak_shift(gone, gone, 0.1) == 0


@pytest.mark.parametrize(("elsewhere", "shift"), [(1, 0), (2, 12)])
def test_of_hundreds_of_peaks_one_in_a_hundred_may_lie_elsewhere_on_its_ridge(elsewhere, shift):
    peaks = np.full((1, 10, 20, 3), 0.9, np.float32)
    peaks[0, :, :, 0], peaks[0, :, :, 1] = np.mgrid[0:10, 0:20] * 50
    moved = peaks.copy()
    moved[0, :elsewhere, 0, 1] += 12
    assert stage._peak_shift(peaks, moved, 0.1) == shift


def test_a_model_that_changed_after_training_is_refused(model, tmp_path):
    copy = tmp_path / "copy.keras"
    shutil.copy(model, copy)
    record = json.loads(record_path(model).read_text())
    record_path(copy).write_text(json.dumps(record))
    copy.write_bytes(copy.read_bytes() + b"x")
    with pytest.raises(StaleArtifactError, match="changed after `tools train` wrote it"):
        export(copy, tmp_path / "model.onnx")


def test_taos_spelling_is_understood(tiny_keras, tmp_path):
    out = tmp_path / "model.onnx"
    result = CliRunner().invoke(
        app,
        [
            *("export", "-m", str(tiny_keras), "-o", str(out), "-d", "96,128,3"),
            *("--data_type", "fp32", "--sdk_compatible_model", "-k", "secret"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "Keras and ONNX differ by at most" in result.output
    assert "nothing is encrypted" in result.output
    assert out.is_file()


@pytest.mark.parametrize("dims", ["96,128", "96,128,1", "a,b,c", "100,128,3"])
def test_impossible_input_sizes_are_a_usage_error(model, dims):
    result = CliRunner().invoke(app, ["export", "-m", str(model), "-d", dims])
    assert result.exit_code == 2
    assert "expected H,W,3" in result.output


def test_sample_images_come_from_a_folder(drawn_coco, tmp_path):
    assert images_in(drawn_coco, HW).shape == (2, *HW, 3)
    with pytest.raises(SampleImagesError, match="expected images"):
        images_in(tmp_path, HW)
