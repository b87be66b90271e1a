"""NVIDIA's builder takes every shipped model in each precision."""

import json
from pathlib import Path

import onnx
import pytest

from bodypose_tools.engines.build import build_engine, engine_record
from bodypose_tools.files.artifacts import Artifact, record_path
from bodypose_tools.files.shipped import ShippedModel, float_graph
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.graphs.float16 import to_half
from bodypose_tools.quantisation.placement import place, prepare
from bodypose_tools.quantisation.qdq import insert_qdq
from pose_runtime.spec import PipelineSpec
from tests.unit.tools.engines.test_build import RTX, needs_rtx, quiet

# The shipped INT8 graphs are for CPUs: their activations are unsigned.
SHIPPED = [float_graph(model) for model in ShippedModel]


def graph_in(precision: str, shipped: Path) -> onnx.ModelProto:
    """A shipped network with its decoding layers; the scales of INT8 are made up."""
    model = onnx.load(shipped)
    if precision == "fp32" or any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return model
    if precision == "fp16":
        return to_half(model)
    prepared = prepare(model)
    placement = place(prepared)
    return insert_qdq(prepared, placement, dict.fromkeys(placement.tensors, 6 / 127))


def int8_layers(graph: onnx.ModelProto) -> int:
    """Convolutions whose weights come from a DequantizeLinear."""
    made = {name: node.op_type for node in graph.graph.node for name in node.output}
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    return sum(made.get(node.input[1]) == "DequantizeLinear" for node in convolutions)


@needs_rtx
@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_nvidias_builder_accepts_every_shipped_model_with_its_decoding_layers(
    tmp_path, precision, shipped
):
    graph, out = graph_in(precision, shipped), tmp_path / "model.plan"
    onnx.save(graph, tmp_path / "model.onnx")

    made = build_engine(tmp_path / "model.onnx", out, RTX, quiet)

    assert out.stat().st_size > 1_000_000
    assert made.parents == (Artifact.open(tmp_path / "model.onnx").sha256,)
    record = engine_record(out)
    assert record["runtime"] == "tensorrt-rtx"
    assert (record["convolutions_in_graph"]["int8"] > 70) == (precision == "int8")
    assert record["convolutions_in_graph"]["int8"] == int8_layers(graph)
    spec = spec_in_onnx(shipped)
    assert record["profile"] == {
        name: [size, *spec.pixels.dims] for name, size in (("min", 1), ("opt", 2), ("max", 4))
    }
    assert PipelineSpec.from_json(json.dumps(record["pipeline"])) == spec.with_model(
        made.parents[0]
    )
    assert json.loads(record_path(out).read_text())["stage"] == "build-engine"
