"""How an exported graph is stored: names of outputs, float16 kernels, scales, biases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from hashlib import sha256

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .index import CONVOLUTIONS, OnnxGraph, replace_nodes

_MIN_FLOAT16_SIZE = 256  # numbers; a smaller kernel stays float32
_MIN_SHARED_SIZE = 8  # numbers; a smaller constant is not worth a comparison
HALF_ROUNDING = 2.0**-11  # of a value: the largest error of its float16
_SCALE_MARGIN = 1e-6  # of a scale: less than a cell of any image, more than float32's rounding


def rename_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with `names` for its outputs, in their order."""
    renamed = deepcopy(model)
    graph = renamed.graph
    new = {output.name: name for output, name in zip(graph.output, names, strict=True)}
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for output in graph.output:
        output.name = new[output.name]
    return renamed


def store_as_float16(model: onnx.ModelProto, max_error: float = HALF_ROUNDING) -> onnx.ModelProto:
    """The graph with large convolution kernels as float16 and a Cast that loaders fold.

    This halves the file. Networks of `save_network` hold float16 values already; what the converter
    folded into them (batch norm) is rounded here.

    Args:
        model: float32 kernels that are read by a convolution.
        max_error: largest error of a number, as a share of the kernel's largest; a kernel that
            float16 does not hold so well stays float32.
    """
    halved = deepcopy(model)
    graph = halved.graph
    casts = []
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    for initializer in graph.initializer:
        if initializer.name not in kernels:
            continue
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < _MIN_FLOAT16_SIZE:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.abs(half - values).max() <= max_error * np.abs(values).max():
            continue
        name = initializer.name
        stored = numpy_helper.from_array(half, f"{name}_float16")
        initializer.CopyFrom(stored)
        casts.append(helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return halved


def unfold_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with each constant in the type that its readers get: undoes `store_as_float16`.

    Quantisers of other projects take a kernel behind a Cast for an activation.
    """
    unfolded = deepcopy(model)
    graph = OnnxGraph(unfolded)
    folded = [n for n in graph.nodes if n.op_type == "Cast" and graph.is_constant(n.output[0])]
    stored = [
        numpy_helper.from_array(graph.constant(node.output[0]), node.output[0]) for node in folded
    ]
    replace_nodes(unfolded, [node for node in graph.nodes if node not in folded], stored)
    return unfolded


def share_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with equal constants stored once, but for the biases of convolutions.

    A layer that runs several times has one kernel; biases stay as `copy_shared_biases` wants them.
    """
    shared = deepcopy(model)
    graph = shared.graph
    biases = {name for n in graph.node if n.op_type in CONVOLUTIONS for name in n.input[2:]}
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    kept = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name not in biases and values.size >= _MIN_SHARED_SIZE:
            described = f"{values.dtype} {values.shape}".encode()
            known = first.setdefault(sha256(described + values.tobytes()).digest(), tensor.name)
            if known != tensor.name:
                same[tensor.name] = known
                continue
        kept.append(tensor)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return shared


def round_scales_up(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the fractional scales of each Resize a little larger.

    A Resize makes floor(side * scale) cells, and in float32 352 / 288 * 288 is below 352.
    """
    rounded = deepcopy(model)
    scales = {node.input[2] for node in rounded.graph.node if node.op_type == "Resize"}
    for initializer in rounded.graph.initializer:
        if initializer.name in scales:
            values = numpy_helper.to_array(initializer)
            above = np.where(values % 1 == 0, values, values * (1 + _SCALE_MARGIN))
            initializer.CopyFrom(
                numpy_helper.from_array(above.astype(np.float32), initializer.name)
            )
    return rounded


def copy_shared_biases(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with a bias of its own for each convolution of a layer that runs several times.

    OpenVINO 2026.4 makes a bias and the activation behind it a part of the convolution only where
    nothing else reads the constant; otherwise both are one more pass over its output.
    """
    copied = deepcopy(model)
    graph = copied.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    readers: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS or len(node.input) < 3:
            continue
        bias = node.input[2]
        readers[bias] += 1
        if readers[bias] > 1 and bias in stored:
            node.input[2] = f"{bias}/{readers[bias]}"
            copy = numpy_helper.from_array(numpy_helper.to_array(stored[bias]), node.input[2])
            graph.initializer.append(copy)
    return copied
