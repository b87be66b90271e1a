"""Owns the first steps of an exported graph: how bytes become what the first convolution takes.

Keras writes `transpose(float(pixels) * scale + offset)`. The same numbers come out in one pass less
when the scale is in the kernel. Resizing, which is linear, may lie between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_CHAIN = ("Conv", "Transpose", "Add", "Mul", "Cast")  # from the convolution back to the input


def fold_pixel_scale(graph: onnx.GraphProto) -> bool:
    """Rewrite the graph's start in place; False, and nothing is changed, when it is another one.

    With a scale that is a power of two, as ours, every product and sum stays the same number.
    """
    makers = {name: node for node in graph.node for name in node.output}
    conv = next((node for node in graph.node if node.op_type == _CHAIN[0]), None)
    chain = _chain_before(conv, makers) if conv is not None else None
    if conv is None or chain is None:
        return False
    transpose, add, mul, cast = chain
    readers, convs = _readers(transpose.output[0], graph)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    scale, offset = (_constant(node, stored) for node in (mul, add))
    kernel = _kernel(conv, makers, stored)
    same = all(n.op_type == _CHAIN[0] and n.input[1] == conv.input[1] for n in convs)
    if scale is None or offset is None or kernel is None or not same:
        return False
    names = [f"{conv.name}/{part}" for part in ("kernel_of_bytes", "offset_of_bytes")]
    graph.initializer.extend(
        [
            numpy_helper.from_array((kernel * scale).astype(np.float32), names[0]),
            numpy_helper.from_array(np.float32(offset / scale), names[1]),
        ]
    )
    start = [
        # TensorRT takes bytes into a Cast and into nothing else.
        helper.make_node("Cast", [cast.input[0]], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Add", ["planes", names[1]], ["centred"]),
    ]
    for node in readers:
        node.input[0] = "centred"
    for node in convs:
        node.input[1] = names[0]
    nodes = [*start, *(node for node in graph.node if node not in (transpose, add, mul, cast))]
    del graph.node[:]
    graph.node.extend(_used(nodes, graph))
    _drop_unused(graph)
    return True


def _chain_before(
    conv: onnx.NodeProto, makers: dict[str, onnx.NodeProto]
) -> tuple[onnx.NodeProto, ...] | None:
    chain, node = [], conv
    for kind in _CHAIN[1:]:
        before = [makers[name] for name in node.input if name in makers]
        found = [maker for maker in before if maker.op_type == kind]
        if len(found) != 1:
            return None
        node = found[0]
        chain.append(node)
    return tuple(chain)


def _readers(
    tensor: str, graph: onnx.GraphProto
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """What reads the network's input, and the same with what reads its resized copies instead."""
    readers = [node for node in graph.node if tensor in node.input]
    copies = {node.output[0] for node in readers if node.op_type == "Resize"}
    direct = [node for node in readers if node.op_type != "Resize"]
    return readers, [*direct, *(node for node in graph.node if copies & set(node.input))]


def _constant(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> np.float64 | None:
    """The one number that a node adds or multiplies by."""
    values = [numpy_helper.to_array(stored[name]) for name in node.input if name in stored]
    return np.float64(values[0].item()) if len(values) == 1 and values[0].size == 1 else None


def _kernel(
    conv: onnx.NodeProto,
    makers: dict[str, onnx.NodeProto],
    stored: dict[str, onnx.TensorProto],
) -> NDArray[np.float64] | None:
    """The convolution's kernel, stored as it is or as float16 and a Cast."""
    name = conv.input[1]
    if name in makers and makers[name].op_type == "Cast":
        name = makers[name].input[0]
    return numpy_helper.to_array(stored[name]).astype(np.float64) if name in stored else None


def _used(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Without the Cast of the old kernel."""
    read = {name for node in nodes for name in node.input}
    read |= {output.name for output in graph.output}
    return [node for node in nodes if read & set(node.output)]


def _drop_unused(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
