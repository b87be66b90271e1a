"""The pass that stores constants where every other pass looks for them: in initializers."""

from __future__ import annotations

from copy import deepcopy

import onnx
from onnx import numpy_helper


def constants_as_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without Constant nodes, and without Identity nodes on what is constant."""
    changed = deepcopy(model)
    graph = changed.graph
    stored = {tensor.name for tensor in graph.initializer}
    given = {value.name for value in graph.input}
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None and node.output[0] not in outputs:
            tensor = numpy_helper.from_array(numpy_helper.to_array(value), node.output[0])
            graph.initializer.append(tensor)
            stored.add(tensor.name)
        elif (
            node.op_type == "Identity"
            and node.input[0] in stored - given
            and node.output[0] not in outputs
        ):
            same[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    return changed
