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
