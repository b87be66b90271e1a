"""The pass that folds batch normalisation into the convolution before it."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import onnx
from onnx import numpy_helper

from .index import OnnxGraph, attribute, replace_nodes


def fold_batch_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every batch norm folded that alone reads a convolution.

    The convolution computes the same function: `weights * factor` and `(bias - mean) * factor +
    shift`, where `factor` is `scale / sqrt(variance + epsilon)` by output channel.
    """
    folded = deepcopy(model)
    graph = OnnxGraph(folded)
    made: list[onnx.TensorProto] = []
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        maker = graph.producer.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if (
            maker is None
            or maker.op_type != "Conv"
            or not graph.is_weighted(maker)
            or len(graph.consumers[node.input[0]]) > 1
        ):
            nodes.append(node)
            continue
        scale, shift, mean, variance = (graph.constant(name) for name in node.input[1:5])
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        weights = graph.constant(maker.input[1]) * factor.reshape(-1, 1, 1, 1)
        bias = graph.constant(maker.input[2]) if len(maker.input) > 2 else 0.0
        names = [f"{maker.name}_folded_weights", f"{maker.name}_folded_bias"]
        for name, values in zip(names, (weights, (bias - mean) * factor + shift), strict=True):
            made.append(numpy_helper.from_array(values.astype(np.float32), name))
        maker.input[1:] = names
        renamed[node.output[0]] = maker.output[0]
    for node in nodes:
        # The convolution takes the name by which the graph's readers and outputs know the result.
        for old, new in renamed.items():
            node.output[:] = [old if name == new else name for name in node.output]
    replace_nodes(folded, nodes, made)
    return folded
