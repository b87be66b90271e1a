"""The pass that moves the scale of the pixels into the kernel of the first convolution.

Keras writes `transpose(float(pixels) * scale + offset)`. With the scale in the kernel the same
numbers come out of one operator less. Resizing, which is linear, may lie between.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .index import OnnxGraph, replace_nodes

_CHAIN = ("Transpose", "Add", "Mul", "Cast")  # from the first convolution back to the input


def fold_pixel_scale(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without the multiplication of its pixels; unchanged when it starts otherwise.

    With a scale that is a power of two, as ours, every product and sum stays the same number.
    """
    folded = deepcopy(model)
    graph = OnnxGraph(folded)
    conv = next((node for node in graph.nodes if node.op_type == "Conv"), None)
    chain = [] if conv is None else _chain_before(graph, conv)
    if conv is None or len(chain) < len(_CHAIN) or not graph.is_constant(conv.input[1]):
        return folded
    transpose, add, mul, cast = chain
    readers = graph.consumers[transpose.output[0]]
    copies = {node.output[0] for node in readers if node.op_type == "Resize"}
    convs = [node for node in readers if node.op_type != "Resize"]
    convs += [node for node in graph.nodes if copies & set(node.input)]
    scale, offset = _only_constant(graph, mul), _only_constant(graph, add)
    same = all(node.op_type == "Conv" and node.input[1] == conv.input[1] for node in convs)
    if scale is None or offset is None or not same:
        return folded
    kernel = graph.constant(conv.input[1]).astype(np.float64)
    names = [f"{conv.name}/{part}" for part in ("kernel_of_bytes", "offset_of_bytes")]
    constants = [
        numpy_helper.from_array((kernel * scale).astype(np.float32), names[0]),
        numpy_helper.from_array(np.float32(offset / scale), names[1]),
    ]
    start = [
        # TensorRT accepts uint8 as the input of a Cast and of no other operator.
        helper.make_node("Cast", [cast.input[0]], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["floats", names[1]], ["centred"]),
        # Next to the convolution: OpenVINO, which computes it with channels last, drops it there.
        helper.make_node("Transpose", ["centred"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    for node in readers:
        node.input[0] = "planes"
    for node in convs:
        node.input[1] = names[0]
    replace_nodes(folded, [*start, *(node for node in graph.nodes if node not in chain)], constants)
    return folded


def _chain_before(graph: OnnxGraph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes of `_CHAIN` that lead to `node`, the nearest first, as far as they are there."""
    chain: list[onnx.NodeProto] = []
    for kind in _CHAIN:
        before = [graph.producer[name] for name in node.input if name in graph.producer]
        found = [maker for maker in before if maker.op_type == kind]
        if len(found) != 1:
            break
        node = found[0]
        chain.append(node)
    return chain


def _only_constant(graph: OnnxGraph, node: onnx.NodeProto) -> np.float64 | None:
    """The one number that a node adds or multiplies by; None when it has another operand."""
    values = [graph.constant(name) for name in node.input if graph.is_constant(name)]
    return np.float64(values[0].item()) if len(values) == 1 and values[0].size == 1 else None
