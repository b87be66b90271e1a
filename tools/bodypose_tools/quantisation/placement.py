"""The place of Q/DQ in a graph, such that TensorRT and OpenVINO fuse it into INT8 operators.

The rules, each with its test; they follow NVIDIA's for TensorRT's explicit quantisation:

1. Q/DQ stands on the *inputs* of convolutions, matrix products, pools and residual additions, and
   nowhere else: runtimes fuse activation functions, and resizes pass INT8 through.
2. Weights: symmetric per output channel, constant only. Activations: symmetric per tensor. No
   zero point other than 0, no quantised bias. With `unsigned`, activations that are never negative
   have the levels 0..255, half as far apart: CPUs run them, TensorRT does not.
3. The heads (an output is reached from them past no other weights, whoever else reads them) and
   what leads from them to the outputs, so all decoding layers, stay float.
4. A residual addition gets Q/DQ on its skip input only: the convolution on the other side then
   fuses with it. Additions of constants get none. With `unsigned`, for CPUs, no addition gets any:
   OpenVINO fuses a float skip as well, and the sum is rounded once a block less.
5. Inputs of a concatenation share the largest of their scales. For its quantised readers it joins
   INT8: Q before it, DQ after it. Where both stand before it, or both after it, OpenVINO 2026.4
   rounds to integers (1.7 becomes 2). Float readers have a float concatenation.
6. Convolutions with fewer than 16 channels on a side stay float, unless the other side fills
   whole vectors.
7. The first convolution stays float: it has little work, and its rounding costs the most accuracy.
8. Batch norm is folded before (`graphs.batch_norm.fold_batch_norm`).
9. A ReLU6 that only quantisers read becomes a ReLU: a quantiser that saturates at 6 clips already.
   OpenVINO 2026.4 computes wrong values for a float convolution, a clip and a quantiser in a row.
10. With `unsigned`, for CPUs, a depthwise convolution between two float layers stays float: it
    waits for memory, and the conversion reads and writes more than INT8 saves.
11. A bias is corrected by the mean error that the rounding of the weights adds.

Sources: the placement rules of NVIDIA Model Optimizer 0.47; for the bias correction Nagel et al.
2019 (arXiv:1906.04721), section 4.2, with means of real images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import onnx

from bodypose_tools.graphs.batch_norm import fold_batch_norm
from bodypose_tools.graphs.index import OnnxGraph, attribute, opset_of
from pose_runtime.errors import PoseError

_ACTIVATIONS = ("Clip", "Relu")
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
_MIN_CHANNELS = 16
_VECTOR = 8  # channels that a kernel handles at once
_MIN_OPSET = 13  # the first with an axis in DequantizeLinear


class QuantisationError(PoseError):
    """A graph cannot be quantised as asked."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where Q/DQ goes: by node and input for activations, by node for weights."""

    layers: tuple[str, ...]  # nodes with INT8 weights
    inputs: frozenset[tuple[str, int]]  # (node, input) that read a quantised activation
    tensors: tuple[str, ...]  # the activations, in the graph's order: what calibration measures
    shared: tuple[frozenset[str], ...] = field(default=())  # activations with one common scale
    unsigned: frozenset[str] = frozenset()  # activations with levels 0..255


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float graph ready for calibration: every node named, batch norm folded.

    Raises:
        QuantisationError: the opset is too old, or the graph is quantised already.
    """
    opset = opset_of(model)
    if opset < _MIN_OPSET:
        raise QuantisationError(
            f"expected opset {_MIN_OPSET} or newer, got {opset}; run `tools export`"
        )
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise QuantisationError("expected a float graph, got one with QuantizeLinear")
    return fold_batch_norm(model)


def place(
    model: onnx.ModelProto, float_layers: Collection[str] = (), *, unsigned: bool = False
) -> Placement:
    """Where the rules place Q/DQ in a prepared graph.

    Args:
        model: from `prepare`.
        float_layers: names of nodes that keep float weights and inputs.
        unsigned: whether activations that are never negative have the levels 0..255.

    Raises:
        QuantisationError: one of `float_layers` does not exist.
    """
    graph = OnnxGraph(model)
    if strays := set(float_layers) - {node.name for node in graph.nodes}:
        raise QuantisationError(f"expected names of nodes to keep in float, got {sorted(strays)}")
    inside = _inside(graph) - set(float_layers)
    layers = [
        node.name for node in graph.nodes if node.name in inside and _fills_vectors(graph, node)
    ]
    if unsigned:
        alone = _depthwise_between_floats(graph, layers)
        layers = [name for name in layers if name not in alone]
    inputs = {(name, 0) for name in layers}
    for node in graph.nodes:
        if node.name in inside and node.op_type in _POOLS:
            inputs.add((node.name, 0))
        elif node.name in inside and node.op_type == "Add" and not unsigned:
            inputs |= {(node.name, index) for index in _skip_inputs(graph, node, layers)}
    by_name = {node.name: node for node in graph.nodes}
    read = {by_name[name].input[index] for name, index in inputs}
    joined = set()
    for node in reversed(graph.nodes):
        if node.op_type == "Concat" and node.output[0] in read:
            if any(graph.is_constant(name) for name in node.input):
                continue
            inputs |= {(node.name, index) for index in range(len(node.input))}
            read.update(node.input)
            joined.add(node.output[0])
    made = [value.name for value in model.graph.input]
    made += [name for node in graph.nodes for name in node.output]
    tensors = tuple(name for name in made if name in read - joined)
    shared = _shared(graph, {*tensors, *joined})
    positive = _never_negative(graph) & {*tensors, *joined} if unsigned else set()
    for group in shared:
        if not group <= positive:
            positive -= group
    return Placement(tuple(layers), frozenset(inputs), tensors, shared, frozenset(positive))


def left_in_float(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes that rules 3, 6 and 7 keep in float, for quantisers that take such a list.

    Args:
        model: from `prepare`.

    Returns:
        In the graph's order: weighted nodes that get no INT8 weights, and every node outside of the
        INT8 region.
    """
    graph = OnnxGraph(model)
    inside, layers = _inside(graph), place(model).layers
    return tuple(
        node.name
        for node in graph.nodes
        if node.name not in inside or (graph.is_weighted(node) and node.name not in layers)
    )


def decoding_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes behind the heads, whose tensors hold coordinates.

    Args:
        model: from `prepare`.
    """
    graph = OnnxGraph(model)
    behind = graph.leading_to_outputs()
    return tuple(n.name for n in graph.nodes if n.name in behind and not graph.is_weighted(n))


def _inside(graph: OnnxGraph) -> set[str]:
    """Names of nodes between the first weights and the heads (rules 3 and 7)."""
    between = graph.leading_to_weights() & graph.following_weights()
    return between - graph.leading_to_outputs()


def _never_negative(graph: OnnxGraph) -> set[str]:
    """Tensors that have no values below 0 whatever the input, as far as their operators show."""
    found: set[str] = set()
    for node in graph.nodes:
        made = node.op_type in ("Relu", "Sigmoid")
        if node.op_type == "Clip" and len(node.input) > 1 and graph.is_constant(node.input[1]):
            made = float(graph.constant(node.input[1])) >= 0
        if node.op_type in ("Concat", "Add"):
            made = found.issuperset(node.input)
        if node.op_type in (*_POOLS, "Identity") or _interpolates(node):
            made = node.input[0] in found
        if made:
            found.update(node.output)
    return found


def _interpolates(node: onnx.NodeProto) -> bool:
    """Whether a resize stays within its input's range; a cubic one overshoots."""
    return node.op_type == "Resize" and attribute(node, "mode", b"nearest") != b"cubic"


def _fills_vectors(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    """Whether a weighted node has channels enough for INT8 to be faster (rule 6)."""
    if not graph.is_weighted(node):
        return False
    if node.op_type not in ("Conv", "ConvTranspose"):
        return True
    groups = attribute(node, "group", 1)
    first, second, *kernel = graph.constant(node.input[1]).shape
    ends = first, second * groups
    if min(ends) >= _MIN_CHANNELS:
        return True
    square = len(set(kernel)) == 1
    return bool(
        groups == 1
        and square
        and max(ends) >= _MIN_CHANNELS
        and any(n % _VECTOR == 0 for n in ends)
    )


def _depthwise_between_floats(graph: OnnxGraph, layers: Collection[str]) -> set[str]:
    """Depthwise convolutions whose neighbours on both sides are none of `layers` (rule 10)."""
    found = set()
    for node in graph.nodes:
        if node.name not in layers or attribute(node, "group", 1) == 1:
            continue
        before = graph.producer.get(node.input[0])
        while before is not None and before.op_type in _ACTIVATIONS:
            before = graph.producer.get(before.input[0])
        near = (before, *_read_past_activations(graph, node))
        if all(n is not None and graph.is_weighted(n) and n.name not in layers for n in near):
            found.add(node.name)
    return found


def _read_past_activations(graph: OnnxGraph, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for reader in graph.readers(node):
        if reader.op_type in _ACTIVATIONS:
            yield from _read_past_activations(graph, reader)
        else:
            yield reader


def _skip_inputs(graph: OnnxGraph, node: onnx.NodeProto, layers: Collection[str]) -> Iterable[int]:
    """Which inputs of an addition get Q/DQ (rule 4): those that no convolution fuses with."""
    if any(graph.is_constant(name) for name in node.input):
        return ()
    fusing = [
        index
        for index, name in enumerate(node.input)
        if name in graph.producer
        and graph.is_weighted(graph.producer[name])
        and len(graph.consumers[name]) == 1
    ]
    if not fusing:
        return range(len(node.input))
    last = max(fusing, key=lambda index: graph.nodes.index(graph.producer[node.input[index]]))
    if graph.producer[node.input[last]].name not in layers:
        return ()
    return (index for index in range(len(node.input)) if index != last)


def is_read_in_int8(
    graph: OnnxGraph, node: onnx.NodeProto, inputs: Collection[tuple[str, int]]
) -> bool:
    """Whether a node's only output is read by quantised inputs, and by nothing else."""
    (tensor,) = node.output
    return tensor not in graph.outputs and all(
        (reader.name, index) in inputs
        and (reader.op_type != "Concat" or is_read_in_int8(graph, reader, inputs))
        for reader in graph.consumers.get(tensor, ())
        for index, name in enumerate(reader.input)
        if name == tensor
    )


def _shared(graph: OnnxGraph, tensors: Collection[str]) -> tuple[frozenset[str], ...]:
    """Sets of activations that concatenations join (rule 5)."""
    groups: list[set[str]] = []
    for node in graph.nodes:
        if node.op_type != "Concat":
            continue
        group = {*node.input, *node.output} & set(tensors)
        for other in [other for other in groups if other & group]:
            groups.remove(other)
            group |= other
        if len(group) > 1:
            groups.append(group)
    return tuple(frozenset(group) for group in groups)
