"""Owns where INT8 starts and ends in a graph: explicit Q/DQ that TensorRT and OpenVINO fuse.

The rules, each with its test; they follow NVIDIA's for TensorRT's explicit quantisation:

1. Q/DQ stands on the *inputs* of convolutions, matrix products, pools and residual additions, and
   nowhere else: activation functions, resizes and concatenations are fused or pass INT8 through.
2. Weights: symmetric per output channel, constant only. Activations: symmetric per tensor. No
   zero point other than 0, no quantised bias.
3. The heads (no weights behind them) and everything after them, so all decoding layers, stay float.
4. A residual addition gets Q/DQ on its skip input only: the convolution on the other side then
   fuses with it. Additions of constants get none.
5. Tensors that meet in a concatenation share the largest of their scales.
6. Convolutions with fewer than 16 channels on a side stay float, unless the other side fills
   whole vectors.
7. The first convolution stays float: little work, and the most to lose.
8. Batch norm is folded before (`onnx_graph.fold_batch_norm`).

Source: placement rules of NVIDIA Model Optimizer 0.47 as described in the project's notes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pose_runtime.errors import PoseError

from .calibration import QUANTISED_MAX
from .onnx_graph import OnnxGraph, attribute, fold_batch_norm, replace_nodes

_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
_MIN_CHANNELS = 16
_VECTOR = 8  # channels that a kernel handles at once
_OPSET = 13  # the first with an axis in DequantizeLinear


class QuantizeError(PoseError):
    """A graph that cannot be quantised as asked."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where Q/DQ goes: by node and input for activations, by node for weights."""

    layers: tuple[str, ...]  # nodes with INT8 weights
    inputs: frozenset[tuple[str, int]]  # (node, input) that read a quantised activation
    tensors: tuple[str, ...]  # the activations, in the graph's order: what calibration measures
    shared: tuple[frozenset[str], ...] = field(default=())  # activations with one common scale


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float graph ready for calibration: every node named, batch norm folded.

    Raises:
        QuantizeError: an older opset, or a graph that is quantised already.
    """
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset < _OPSET:
        raise QuantizeError(f"expected opset {_OPSET} or newer, got {opset}; run `tools export`")
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise QuantizeError("expected a float graph, got one with QuantizeLinear")
    return fold_batch_norm(model)


def place(model: onnx.ModelProto, float_layers: Collection[str] = ()) -> Placement:
    """Apply the rules to a prepared graph.

    Args:
        model: from `prepare`.
        float_layers: names of nodes that keep float weights and inputs.

    Raises:
        QuantizeError: one of `float_layers` does not exist.
    """
    graph = OnnxGraph(model)
    if strays := set(float_layers) - {node.name for node in graph.nodes}:
        raise QuantizeError(f"expected names of nodes to keep in float, got {sorted(strays)}")
    leading, following = graph.leading_to_weights(), graph.following_weights()
    layers = [
        node.name
        for node in graph.nodes
        if node.name in leading & following
        and node.name not in float_layers
        and _fills_vectors(graph, node)
    ]
    inputs = {(name, 0) for name in layers}
    for node in graph.nodes:
        if node.name in leading & following and node.name not in float_layers:
            if node.op_type in _POOLS:
                inputs.add((node.name, 0))
            elif node.op_type == "Add":
                inputs |= {(node.name, index) for index in _skip_inputs(graph, node, layers)}
    by_name = {node.name: node for node in graph.nodes}
    read = {by_name[name].input[index] for name, index in inputs}
    tensors = [name for node in graph.nodes for name in node.output if name in read]
    tensors = [value.name for value in model.graph.input if value.name in read] + tensors
    return Placement(tuple(layers), frozenset(inputs), tuple(tensors), _shared(graph, tensors))


def _fills_vectors(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    """A weighted node whose channels make INT8 worth while (rule 6)."""
    if not graph.is_weighted(node):
        return False
    if node.op_type not in ("Conv", "ConvTranspose"):
        return True
    groups = attribute(node, "group", 1)
    first, second, *kernel = graph.constant(node.input[1]).shape
    transposed = node.op_type == "ConvTranspose"
    ends = (first, second * groups)[:: -1 if transposed else 1]
    if min(ends) >= _MIN_CHANNELS:
        return True
    square = len(set(kernel)) == 1
    return bool(
        groups == 1
        and square
        and max(ends) >= _MIN_CHANNELS
        and any(n % _VECTOR == 0 for n in ends)
    )


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


def quantize(
    model: onnx.ModelProto, placement: Placement, scales: Mapping[str, float]
) -> onnx.ModelProto:
    """The graph with Q/DQ at `placement`.

    Args:
        model: from `prepare`.
        placement: from `place`.
        scales: of every tensor of the placement: the value of one INT8 step.
    """
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    graph = OnnxGraph(quantised)
    common = dict(scales)
    for group in placement.shared:
        common |= dict.fromkeys(group, max(scales[name] for name in group))
    stored: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for tensor in placement.tensors:
        if tensor not in graph.producer:
            nodes += _activation_pair(tensor, common[tensor], stored)
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            if (node.name, index) in placement.inputs:
                node.input[index] = f"{name}_dequantized"
        if node.name in placement.layers:
            nodes.append(_int8_weights(graph, node, stored))
        nodes.append(node)
        for name in node.output:
            if name in placement.tensors:
                nodes += _activation_pair(name, common[name], stored)
    replace_nodes(quantised, nodes, stored)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _activation_pair(
    tensor: str, scale: float, stored: list[onnx.TensorProto]
) -> list[onnx.NodeProto]:
    constants = [f"{tensor}_scale", f"{tensor}_zero_point"]
    stored.append(numpy_helper.from_array(np.float32(scale), constants[0]))
    stored.append(numpy_helper.from_array(np.int8(0), constants[1]))
    whole, back = f"{tensor}_quantized", f"{tensor}_dequantized"
    return [
        helper.make_node("QuantizeLinear", [tensor, *constants], [whole], f"{tensor}_quantize"),
        helper.make_node("DequantizeLinear", [whole, *constants], [back], f"{tensor}_dequantize"),
    ]


def _int8_weights(
    graph: OnnxGraph, node: onnx.NodeProto, stored: list[onnx.TensorProto]
) -> onnx.NodeProto:
    """Store a node's weights as INT8, one scale per output channel; the node that reads them."""
    axis = _output_axis(node)
    weights, scales = int8_weights(graph.constant(node.input[1]), axis)
    names = [f"{node.name}_weights_int8", f"{node.name}_weights_scale", f"{node.name}_weights_zero"]
    zeros = np.zeros(len(scales), np.int8)
    for name, values in zip(names, (weights, scales, zeros), strict=True):
        stored.append(numpy_helper.from_array(values, name))
    node.input[1] = f"{node.name}_weights_dequantized"
    return helper.make_node(
        "DequantizeLinear", names, [node.input[1]], f"{node.name}_weights_dequantize", axis=axis
    )


def int8_weights(weights: NDArray[Any], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric INT8 and the scale of each index along `axis`; an all-zero channel has scale 1."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    limits = np.abs(weights).max(axis=others).astype(np.float32)
    scales = np.where(limits > 0, limits, QUANTISED_MAX) / np.float32(QUANTISED_MAX)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    steps = np.rint(weights / scales.reshape(shape))
    whole = np.clip(steps, -QUANTISED_MAX, QUANTISED_MAX).astype(np.int8)
    return whole, scales.astype(np.float32)


def _output_axis(node: onnx.NodeProto) -> int:
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        return 1
    return 1 if node.op_type == "ConvTranspose" else 0
