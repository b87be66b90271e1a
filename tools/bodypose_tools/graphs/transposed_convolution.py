"""The pass that computes transposed convolutions as convolutions and a rearrangement, for CPUs.

Where kernel and stride are equal no two cells of the input meet in one of the output, so that the
output's cells are channels of a 1 x 1 convolution. OpenVINO 2026.4 computes that in bfloat16, and
transposed convolutions in float32 whatever it is told.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .index import OnnxGraph, attribute, replace_nodes


def rearrange_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with Conv and DepthToSpace for each ConvTranspose of equal kernel and stride.

    The convolution keeps the node's name. Every output is the same sum of products.
    """
    rearranged = deepcopy(model)
    graph = OnnxGraph(rearranged)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    for node in graph.nodes:
        nodes += _rearranged(graph, node, stored) if _keeps_cells_apart(graph, node) else [node]
    replace_nodes(rearranged, nodes, stored)
    return rearranged


def _keeps_cells_apart(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    if node.op_type != "ConvTranspose" or not all(map(graph.is_constant, node.input[1:])):
        return False
    kernel = graph.constant(node.input[1]).shape[2:]
    return (
        len(kernel) == 2
        and len({*kernel, *attribute(node, "strides", [1, 1])}) == 1
        and attribute(node, "group", 1) == 1
        and attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and attribute(node, "output_shape", None) is None
        and set(attribute(node, "dilations", [1])) == {1}
        and not any((*attribute(node, "pads", []), *attribute(node, "output_padding", [])))
    )


def _rearranged(
    graph: OnnxGraph, node: onnx.NodeProto, stored: list[onnx.TensorProto]
) -> list[onnx.NodeProto]:
    weights = graph.constant(node.input[1])  # (inputs, outputs, k, k)
    inputs, _, size, _ = weights.shape
    kernel = np.ascontiguousarray(weights.transpose(1, 2, 3, 0)).reshape(-1, inputs, 1, 1)
    names = [f"{node.name}/kernel_of_cells"]
    stored.append(numpy_helper.from_array(kernel, names[0]))
    if len(node.input) > 2:
        bias = np.repeat(graph.constant(node.input[2]), size * size)
        names.append(f"{node.name}/bias_of_cells")
        stored.append(numpy_helper.from_array(bias, names[1]))
    cells = f"{node.name}/cells"
    return [
        helper.make_node("Conv", [node.input[0], *names], [cells], node.name, kernel_shape=[1, 1]),
        helper.make_node(
            "DepthToSpace",
            [cells],
            list(node.output),
            f"{node.name}/rearranged",
            blocksize=size,
            mode="CRD",
        ),
    ]
