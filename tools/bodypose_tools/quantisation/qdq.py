"""The pass that inserts Q/DQ nodes into an ONNX graph, where `placement` puts them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bodypose_tools.graphs.index import OnnxGraph, attribute, replace_nodes
from bodypose_tools.graphs.storage import share_constants, store_as_float16

from .calibration import QUANTISED_MAX
from .placement import Placement, is_read_in_int8

_UNSIGNED = QUANTISED_MAX / 255  # a step of 0..255, in steps of -127..127
_MAX_STORAGE_ERROR = 1e-6  # of a float kernel's largest number: none but of what was float16 before


def insert_qdq(
    model: onnx.ModelProto,
    placement: Placement,
    scales: Mapping[str, float],
    means: Mapping[str, NDArray[np.float32]] | None = None,
) -> onnx.ModelProto:
    """The graph with Q/DQ at `placement`, which computes in INT8 where a runtime fuses them.

    Weights that several nodes share are stored once; kernels that stay float and were stored as
    float16 are stored so again.

    Args:
        model: from `prepare`.
        placement: from `place`.
        scales: value of one of the 127 steps, by tensor of the placement.
        means: of each channel, (channels,) by tensor; a convolution that reads another tensor keeps
            its bias.
    """
    means = means or {}
    quantised = deepcopy(model)
    graph = OnnxGraph(quantised)
    common = dict(scales)
    for group in placement.shared:
        common |= dict.fromkeys(group, max(scales[name] for name in group if name in scales))
    stored: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def pair(tensor: str) -> list[onnx.NodeProto]:
        return _activation_pair(tensor, common[tensor], tensor in placement.unsigned, stored)

    for tensor in placement.tensors:
        if tensor not in graph.producer:
            nodes += pair(tensor)
    for node in graph.nodes:
        if _is_saturating_clip(graph, node, placement, common):
            node.op_type = "Relu"
            del node.input[1:]
        if node.op_type == "Concat" and (node.name, 0) in placement.inputs:
            nodes += [node, *_int8_concatenation(node, *pair(node.output[0]))]
            continue
        if node.name in placement.layers:
            _correct_bias(graph, node, means.get(node.input[0]), stored)
            nodes.append(_int8_weights(graph, node, stored))
        for index, name in enumerate(node.input):
            if (node.name, index) in placement.inputs:
                node.input[index] = f"{name}_dequantized"
        nodes.append(node)
        for name in node.output:
            if name in placement.tensors:
                nodes += pair(name)
    replace_nodes(quantised, nodes, stored)
    small = store_as_float16(share_constants(quantised), _MAX_STORAGE_ERROR)
    onnx.checker.check_model(small, full_check=True)
    return small


def _is_saturating_clip(
    graph: OnnxGraph, node: onnx.NodeProto, placement: Placement, scales: Mapping[str, float]
) -> bool:
    """Whether a clip starts at 0 and its readers' quantisers saturate at its upper end (rule 9)."""
    if node.op_type != "Clip" or len(node.input) != 3:
        return False
    if not all(graph.is_constant(name) for name in node.input[1:]):
        return False
    if not is_read_in_int8(graph, node, placement.inputs):
        return False
    low, high = (float(graph.constant(name)) for name in node.input[1:])
    # Half a step below the largest level still rounds to it.
    half = 0.5 * (_UNSIGNED if node.output[0] in placement.unsigned else 1.0)
    return low == 0 and high >= (QUANTISED_MAX - half) * scales[node.output[0]]


def _activation_pair(
    tensor: str, scale: float, unsigned: bool, stored: list[onnx.TensorProto]
) -> list[onnx.NodeProto]:
    constants = [f"{tensor}_scale", f"{tensor}_zero_point"]
    step, zero = (scale * _UNSIGNED, np.uint8(0)) if unsigned else (scale, np.int8(0))
    stored.append(numpy_helper.from_array(np.float32(step), constants[0]))
    stored.append(numpy_helper.from_array(zero, constants[1]))
    levels, back = f"{tensor}_quantized", f"{tensor}_dequantized"
    return [
        helper.make_node("QuantizeLinear", [tensor, *constants], [levels], f"{tensor}_quantize"),
        helper.make_node("DequantizeLinear", [levels, *constants], [back], f"{tensor}_dequantize"),
    ]


def _int8_concatenation(
    node: onnx.NodeProto, quantise: onnx.NodeProto, back: onnx.NodeProto
) -> list[onnx.NodeProto]:
    """The same concatenation of INT8 tensors, and the node that dequantises it (rule 5)."""
    joined = deepcopy(node)
    joined.name = f"{node.name}_int8"
    joined.input[:] = [f"{name}_quantized" for name in node.input]
    joined.output[:] = quantise.output
    return [joined, back]


def _correct_bias(
    graph: OnnxGraph,
    node: onnx.NodeProto,
    mean: NDArray[np.float32] | None,
    stored: list[onnx.TensorProto],
) -> None:
    """Subtract the mean error of rounded weights from a convolution's bias (rule 11)."""
    biases = node.input[2:]
    if mean is None or node.op_type != "Conv" or not all(map(graph.is_constant, biases)):
        return
    weights = graph.constant(node.input[1])
    levels, scales = int8_weights(weights, axis=0)
    added = levels * scales.reshape(-1, *[1] * (weights.ndim - 1)) - weights
    per_input = added.reshape(*added.shape[:2], -1).sum(axis=2)  # (outputs, inputs of the group)
    read = mean.reshape(attribute(node, "group", 1), -1)  # (groups, inputs of the group)
    bias = graph.constant(biases[0]) if biases else np.zeros(len(weights), np.float32)
    bias = bias - (per_input * np.repeat(read, len(weights) // len(read), axis=0)).sum(axis=1)
    node.input[2:] = [f"{node.name}_corrected_bias"]
    stored.append(numpy_helper.from_array(bias.astype(np.float32), node.input[2]))


def _int8_weights(
    graph: OnnxGraph, node: onnx.NodeProto, stored: list[onnx.TensorProto]
) -> onnx.NodeProto:
    """Store weights as INT8, with a scale per output channel; the node that dequantises them."""
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
    """Weights as symmetric INT8, and their scales: one for each index along `axis`.

    A channel that is all zeros has scale 1.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    limits = np.abs(weights).max(axis=others).astype(np.float32)
    scales = np.where(limits > 0, limits, QUANTISED_MAX) / np.float32(QUANTISED_MAX)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    steps = np.rint(weights / scales.reshape(shape))
    levels = np.clip(steps, -QUANTISED_MAX, QUANTISED_MAX).astype(np.int8)
    return levels, scales.astype(np.float32)


def _output_axis(node: onnx.NodeProto) -> int:
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        return 1
    return 1 if node.op_type == "ConvTranspose" else 0
