"""The pass that makes the network compute in float16 between float32 inputs and outputs.

The decoding layers stay in float32: cell indices above 2048 are not float16 numbers.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .batch_norm import fold_batch_norm
from .index import OnnxGraph, replace_nodes

_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
# Inputs that ONNX defines as float32, whatever type the operator computes in.
_FIXED_INPUTS = {"Resize": (1, 2, 3)}


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with batch norm folded and every float operator up to its heads in float16."""
    half = fold_batch_norm(model)
    graph = OnnxGraph(half)
    leading = graph.leading_to_weights()
    floats = _float_tensors(half)
    region = {
        node.name
        for node in graph.nodes
        if (node.name in leading or graph.is_weighted(node))
        and node.op_type != "Cast"
        and set(node.output) <= floats
    }
    inside = {name for node in graph.nodes if node.name in region for name in node.output}
    nodes: list[onnx.NodeProto] = []
    stored: dict[str, onnx.TensorProto] = {}
    cast: set[str] = set()
    for node in graph.nodes:
        if node.name in region:
            for index, name in enumerate(node.input):
                fixed = index in _FIXED_INPUTS.get(node.op_type, ())
                if not name or fixed or name in inside or name not in floats:
                    continue
                node.input[index] = f"{name}_half"
                if graph.is_constant(name):
                    values = graph.constant(name).astype(np.float16)
                    stored[name] = numpy_helper.from_array(values, f"{name}_half")
                elif name not in cast:
                    cast.add(name)
                    nodes.append(helper.make_node("Cast", [name], [f"{name}_half"], to=_HALF))
        nodes.append(node)
        if node.name in region:
            nodes += _back_to_float(graph, node, region)
    del half.graph.value_info[:]
    replace_nodes(half, nodes, list(stored.values()))
    onnx.checker.check_model(half, full_check=True)
    return half


def _back_to_float(
    graph: OnnxGraph, node: onnx.NodeProto, region: set[str]
) -> list[onnx.NodeProto]:
    """Casts that keep a tensor's name for float32 readers outside the region."""
    casts = []
    for index, name in enumerate(node.output):
        readers = graph.consumers.get(name, [])
        if name not in graph.outputs and all(reader.name in region for reader in readers):
            continue
        inner = f"{name}_half_value"
        node.output[index] = inner
        for reader in readers:
            if reader.name in region:
                reader.input[:] = [inner if n == name else n for n in reader.input]
        casts.append(helper.make_node("Cast", [inner], [name], to=_FLOAT))
    return casts


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    known = {value.name for value in values if value.type.tensor_type.elem_type == _FLOAT}
    return known | {tensor.name for tensor in inferred.initializer if tensor.data_type == _FLOAT}
