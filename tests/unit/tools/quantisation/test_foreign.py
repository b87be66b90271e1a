import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.shipped import MODELS
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.graphs.index import OnnxGraph
from bodypose_tools.graphs.storage import store_as_float16
from bodypose_tools.quantisation import foreign
from bodypose_tools.quantisation.foreign import for_quantisers
from bodypose_tools.quantisation.placement import decoding_layers, left_in_float, place, prepare
from tests.unit.tools.tiny_graphs import Tiny, run


def stored_as_shipped() -> onnx.ModelProto:
    """stem -> first -> second -> head, with kernels of 256 numbers and more as float16."""
    tiny = Tiny()
    x = tiny.op("Relu", "first_relu", tiny.conv("first", tiny.stem(), (16, 16), kernel=3))
    x = tiny.op("Relu", "second_relu", tiny.conv("second", x, (16, 16), kernel=3))
    tiny.conv("head", x, (16, 19))
    return store_as_float16(tiny.model("head_out"))


class Noise(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.left = [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(2)]

    def get_next(self):
        return self.left.pop() if self.left else None


def int8_kernels(model: onnx.ModelProto, folder) -> int:
    """Kernels that ONNX Runtime's quantiser stores in 8 bits."""
    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx", folder / "int8.onnx", Noise(), quant_format=QuantFormat.QDQ
    )
    made = onnx.load(folder / "int8.onnx").graph.initializer
    int8 = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    return sum(each.data_type in int8 and len(each.dims) == 4 for each in made)


def test_another_quantiser_sees_kernels_where_it_saw_activations(tmp_path):
    shipped = stored_as_shipped()
    assert any(node.op_type == "Cast" for node in shipped.graph.node)
    unfolded = for_quantisers(shipped)
    assert not any(node.op_type == "Cast" for node in unfolded.graph.node)
    assert int8_kernels(shipped, tmp_path) < 4
    assert int8_kernels(unfolded, tmp_path) == 4


def test_unfolded_weights_are_the_same_numbers():
    shipped = stored_as_shipped()
    assert np.array_equal(run(shipped)[0], run(for_quantisers(shipped))[0])
    kernels = {each.name: each for each in for_quantisers(shipped).graph.initializer}
    assert numpy_helper.to_array(kernels["first_w"]).dtype == np.float32


def test_the_list_has_what_the_rules_keep_in_float_and_no_int8_layer():
    model = prepare(stored_as_shipped())
    left = left_in_float(model)
    assert {"stem", "head"} <= set(left)
    assert not {"first", "second", "first_relu", "second_relu"} & set(left)
    assert not set(place(model).layers) & set(left)


def test_decoding_layers_are_what_stands_behind_the_heads():
    tiny = Tiny()
    x = tiny.op("Relu", "first_relu", tiny.conv("first", tiny.stem(), (16, 16), kernel=3))
    tiny.op("Sigmoid", "scores", tiny.conv("head", x, (16, 19)))
    assert decoding_layers(prepare(tiny.model("scores_out"))) == ("scores",)


def equalise(folder, images, *options: str):
    model = MODELS / "bodypose-xs.onnx"
    out = folder / "equalised.onnx"
    arguments = ["equalise", str(model), "-o", str(out), "--cal-image-dir", str(images)]
    return CliRunner().invoke(app, [*arguments, *options]), out


@pytest.mark.slow
def test_the_command_writes_a_float_graph_with_the_same_joints_and_the_list(tmp_path, drawn_coco):
    said, out = equalise(tmp_path, drawn_coco, "-n", "2")
    assert said.exit_code == 0, said.output
    assert spec_in_onnx(out) == spec_in_onnx(MODELS / "bodypose-xs.onnx")
    settings = json.loads((tmp_path / "equalised.onnx.json").read_text())["settings"]
    assert settings["joints_that_stay"] == 1
    names = {node.name for node in OnnxGraph(onnx.load(out)).nodes}
    assert set(settings["leave_in_float"]) <= names
    assert f"{len(settings['leave_in_float'])} nodes" in said.output

    again = CliRunner().invoke(app, ["equalise", str(out), "-o", str(tmp_path / "no" / "x.onnx")])
    assert again.exit_code == 2  # no images


def test_too_few_images_and_moved_joints_are_one_line_and_no_file(
    tmp_path, drawn_coco, monkeypatch
):
    said, out = equalise(tmp_path, drawn_coco, "-n", "5000")
    assert said.exit_code == 1
    assert "expected" in str(said.exception)
    assert not out.exists()

    monkeypatch.setattr(
        foreign, "equalised_for_quantisers", lambda model, images: (prepare(model), ())
    )
    monkeypatch.setattr(foreign, "peaks_against", lambda *given: lambda candidate: 0.5)
    said, out = equalise(tmp_path, drawn_coco, "-n", "1")
    assert isinstance(said.exception, foreign.AccuracyGateError)
    assert "0.5000" in str(said.exception)
    assert not out.exists()
