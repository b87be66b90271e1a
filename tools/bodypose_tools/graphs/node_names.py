"""The pass that names and orders an exported graph's nodes: the same network gives the same bytes.

tf2onnx iterates over sets of names, whose order differs between processes: which of two equal
constants stays, how nodes are numbered and in which order they are written is left to chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING

from .index import CONVOLUTIONS

if TYPE_CHECKING:
    import onnx

BATCH = "batch"
_COUNTER = re.compile(r"__\d+$")  # of tf2onnx


def name_by_place(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph ordered by what the outputs need first, with nodes and tensors named by that order.

    Inputs and outputs of the graph keep their names. Sides that are not known, those of the batch,
    are called `BATCH`. A node that no output needs is dropped, and so is a constant that no node
    reads.
    """
    named = deepcopy(model)
    graph = named.graph
    nodes = list(_in_order(graph))
    names = {tensor.name: tensor.name for tensor in (*graph.input, *graph.output)}
    names[""] = ""  # an optional input or output that a node leaves out
    stored = {tensor.name: tensor for tensor in graph.initializer}
    taken: set[str] = set()
    constants = []
    for number, node in enumerate(nodes):
        # Convolutions keep the names of their layers, which reports show.
        layer = _COUNTER.sub("", node.name) if node.op_type in CONVOLUTIONS else ""
        name = layer if layer and layer not in taken else f"{layer or node.op_type}_{number}"
        taken.add(name)
        node.name = name
        if not node.domain:  # absent and empty mean the same, and are not the same bytes
            node.ClearField("domain")
        for index, read in enumerate(node.input):
            if read in stored and read not in names:
                names[read] = f"{name}/constant_{index}"
                constants.append(stored[read])
        for index, made in enumerate(node.output):
            names.setdefault(made, f"{name}:{index}")
    for node in nodes:
        node.input[:] = [names.get(read, read) for read in node.input]
        node.output[:] = [names[made] for made in node.output]
    for tensor in constants:
        tensor.name = names[tensor.name]
    for tensor in (*graph.input, *graph.output):
        for side in tensor.type.tensor_type.shape.dim:
            if side.HasField("dim_param"):
                side.dim_param = BATCH
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    return named


def _in_order(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes that the outputs need, each after those that it reads in the order of inputs."""
    makers = {name: node for node in graph.node for name in node.output if name}
    done: set[str] = set()
    waiting = [makers[output.name] for output in reversed(graph.output)]
    while waiting:
        node = waiting[-1]
        before = [makers[name] for name in node.input if name in makers]
        missing = [maker for maker in before if maker.output[0] not in done]
        if missing:
            waiting += reversed(missing)
            continue
        waiting.pop()
        if node.output[0] not in done:
            done.add(node.output[0])
            yield node
