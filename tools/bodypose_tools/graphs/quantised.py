"""Properties of a graph that is quantised already."""

from __future__ import annotations

import numpy as np
import onnx

from .index import OnnxGraph


def has_unsigned_activations(model: onnx.ModelProto) -> bool:
    """Whether a quantiser of the graph makes uint8: CPUs run such a graph, TensorRT does not."""
    graph = OnnxGraph(model)
    quantisers = (node for node in graph.nodes if node.op_type == "QuantizeLinear")
    return any(graph.constant(node.input[2]).dtype == np.uint8 for node in quantisers)


def has_activation_scales_by_channel(model: onnx.ModelProto) -> bool:
    """Whether an activation has a scale for each channel, as NNCF gives inputs of depthwise layers.

    ONNX Runtime 1.32 fuses such quantisers into operators that then refuse to run.
    """
    graph = OnnxGraph(model)
    return any(
        node.op_type == "QuantizeLinear"
        and not graph.is_constant(node.input[0])
        and graph.is_constant(node.input[1])
        and graph.constant(node.input[1]).size > 1
        for node in graph.nodes
    )
