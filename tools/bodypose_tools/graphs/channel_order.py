"""The pass that lets elementwise operators run in the order of channels that surrounds them.

Keras pools with channels last and ONNX with channels first, so that the converter turns what it
compares around, and its result back.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .index import OnnxGraph, attribute, replace_nodes

_ELEMENTWISE = (
    *("Add", "And", "Cast", "Clip", "Div", "Equal", "Greater", "GreaterOrEqual", "Less"),
    *("LessOrEqual", "Max", "Min", "Mul", "Not", "Or", "Relu", "Sigmoid", "Sub", "Where"),
)

Order = tuple[int, ...]


def keep_channel_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without transpositions that elementwise operators alone separate.

    Operators move in front of the transpositions that they read, where everything that reads them
    turns the order back or asks for the shape.
    """
    kept = deepcopy(model)
    graph = OnnxGraph(kept)
    moved = _moved(graph)
    in_order: dict[str, str] = {}  # tensors of moved nodes, and what they are called now
    turned_back: dict[str, str] = {}
    stored: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        source = node.input[0] if node.input else ""
        if node.name in moved:
            for index, name in enumerate(node.input):
                maker = graph.producer.get(name)
                if name in in_order:
                    node.input[index] = in_order[name]
                elif maker is not None and maker.op_type == "Transpose":
                    node.input[index] = turned_back.get(maker.input[0], maker.input[0])
            made = f"{node.output[0]}/in_order"
            in_order[node.output[0]] = made
            node.output[0] = made
        elif source in in_order and node.op_type == "Transpose":
            turned_back[node.output[0]] = in_order[source]
            continue
        elif source in in_order:
            nodes += _shape(node, in_order[source], moved[graph.producer[source].name], stored)
            continue
        else:
            node.input[:] = [turned_back.get(name, name) for name in node.input]
        nodes.append(node)
    replace_nodes(kept, nodes, stored)
    return kept


def _moved(graph: OnnxGraph) -> Mapping[str, Order]:
    """The nodes that move in front of transpositions, and the order of what these make."""
    orders = {n.output[0]: _order(n) for n in graph.nodes if n.op_type == "Transpose"}
    moved: dict[str, Order] = {}
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        read = {orders.get(name) for name in node.input if not _is_number(graph, name)}
        if node.op_type in _ELEMENTWISE and len(read) == 1 and (order := read.pop()) is not None:
            orders[node.output[0]] = moved[node.name] = order
    # One at a time: what is wrong because of it may be right without it.
    while wrong := next((name for name in moved if not _may_move(graph, nodes[name], moved)), ""):
        del moved[wrong]
    return moved


def _may_move(graph: OnnxGraph, node: onnx.NodeProto, moved: Mapping[str, Order]) -> bool:
    """Whether what a node reads is turned or moves, and so is what reads it."""
    makers = [graph.producer.get(each) for each in node.input if not _is_number(graph, each)]
    back = tuple(int(axis) for axis in np.argsort(moved[node.name]))
    return (
        all(maker and (maker.name in moved or _turns(graph, maker, moved)) for maker in makers)
        and not graph.outputs & set(node.output)
        and all(
            reader.name in moved
            or reader.op_type == "Shape"
            or (
                reader.op_type == "Transpose"
                and _order(reader) == back
                and not graph.outputs & set(reader.output)
            )
            for reader in graph.readers(node)
        )
    )


def _turns(graph: OnnxGraph, node: onnx.NodeProto, moved: Mapping[str, Order]) -> bool:
    """Whether a node is a transposition that stays where it is."""
    if node.op_type != "Transpose":
        return False
    maker = graph.producer.get(node.input[0])
    return maker is None or maker.name not in moved


def _order(transpose: onnx.NodeProto) -> Order:
    return tuple(attribute(transpose, "perm", ()))


def _is_number(graph: OnnxGraph, name: str) -> bool:
    return not name or (graph.is_constant(name) and graph.constant(name).size == 1)


def _shape(
    node: onnx.NodeProto, source: str, order: Order, stored: list[onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """The shape of the tensor that was, from the one that is in another order."""
    names = [f"{node.name}/in_order", f"{node.name}/order"]
    stored.append(numpy_helper.from_array(np.array(order, np.int64), names[1]))
    return [
        helper.make_node("Shape", [source], names[:1], names[0]),
        helper.make_node("Gather", names, list(node.output), node.name),
    ]
