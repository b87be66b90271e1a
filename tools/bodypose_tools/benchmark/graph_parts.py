"""Owns the cut of an exported graph behind its last convolutions: network, then decoding layers."""

from __future__ import annotations

from pathlib import Path

import onnx

from bodypose_tools.graphs.index import CONVOLUTIONS
from pose_runtime.errors import PoseError


class OnnxPartsError(PoseError):
    """A graph has no part behind its convolutions."""


def after_the_convolutions(model: Path) -> tuple[bytes, bytes]:
    """The graph up to its last convolutions, and what comes behind them, as two ONNX files.

    The outputs of the first are the inputs of the second, in the same order.

    Raises:
        OnnxPartsError: the outputs do not come from convolutions.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.load(model))
    maker = {name: node for node in graph.graph.node for name in node.output}
    outputs = [output.name for output in graph.graph.output]
    fields, seen, waiting = [], set(outputs), list(outputs)
    while waiting:
        name = waiting.pop()
        node = maker.get(name)
        if node is None:
            continue
        if node.op_type in CONVOLUTIONS:
            fields.append(name)
            continue
        for source in node.input:
            if source not in seen:
                seen.add(source)
                waiting.append(source)
    if not fields:
        raise OnnxPartsError(f"{model}: expected convolutions before its outputs, got none")
    extractor = onnx.utils.Extractor(graph)
    inputs = [tensor.name for tensor in graph.graph.input]
    head = extractor.extract_model(inputs, sorted(fields))
    tail = extractor.extract_model(sorted(fields), outputs)
    return head.SerializeToString(), tail.SerializeToString()
