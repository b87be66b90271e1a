"""How an ONNX graph is stored: float16 weights, rounded scales, biases and names of its own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .index import CONVOLUTIONS

# Convolution kernels of at least this many numbers are stored as float16 and cast when loaded.
_MIN_HALF_SIZE = 256


_SCALE_MARGIN = 1e-6  # of a scale: less than a cell of any image, more than float32's rounding


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for output in graph.output:
        if output.name == old:
            output.name = new


def _store_as_float16(graph: onnx.GraphProto) -> None:
    """Halve the file: large convolution kernels become float16 and a Cast that loaders fold.

    Networks of `save_network` hold float16 values already; what the converter folded into them
    (batch norm) is rounded here, by at most 1 part in 2048.
    """
    casts = []
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    for initializer in graph.initializer:
        if initializer.name not in kernels:
            continue
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < _MIN_HALF_SIZE:
            continue
        name = initializer.name
        stored = numpy_helper.from_array(values.astype(np.float16), f"{name}_float16")
        initializer.CopyFrom(stored)
        casts.append(helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _round_scales_up(graph: onnx.GraphProto) -> None:
    """Resize makes floor(side * scale) cells, and float32 has 352 / 288 * 288 below 352."""
    scales = {node.input[2] for node in graph.node if node.op_type == "Resize"}
    for initializer in graph.initializer:
        if initializer.name in scales:
            values = numpy_helper.to_array(initializer)
            above = np.where(values % 1 == 0, values, values * (1 + _SCALE_MARGIN))
            initializer.CopyFrom(
                numpy_helper.from_array(above.astype(np.float32), initializer.name)
            )


def _copy_shared_biases(graph: onnx.GraphProto) -> None:
    """Of a layer that runs several times, each convolution gets a bias of its own.

    OpenVINO 2026.4 makes a bias and the activation behind it a part of the convolution only where
    nothing else reads the constant; otherwise both are one more pass over its output.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    read: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS or len(node.input) < 3:
            continue
        bias = node.input[2]
        read[bias] += 1
        if read[bias] > 1 and bias in stored:
            node.input[2] = f"{bias}/{read[bias]}"
            copy = numpy_helper.from_array(numpy_helper.to_array(stored[bias]), node.input[2])
            graph.initializer.append(copy)
