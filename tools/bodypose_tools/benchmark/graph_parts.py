"""An exported graph in two parts: the network up to its last convolutions, and the decoding."""

from __future__ import annotations

from pathlib import Path

import onnx

from bodypose_tools.graphs.index import OnnxGraph
from pose_runtime.errors import PoseError


class OnnxPartsError(PoseError):
    """A graph has no part behind its convolutions."""


def after_the_convolutions(model: Path) -> tuple[bytes, bytes]:
    """The graph up to its last convolutions, and what comes behind them, as two ONNX files.

    The outputs of the first are the inputs of the second, in the same order.

    Raises:
        OnnxPartsError: the outputs do not come from convolutions.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.load(model, load_external_data=False))
    index = OnnxGraph(graph)
    behind = index.leading_to_outputs()
    heads = [node for node in index.nodes if node.name in behind and index.is_weighted(node)]
    fields = [name for node in heads for name in node.output]
    outputs = [output.name for output in graph.graph.output]
    if not fields:
        raise OnnxPartsError(f"{model}: expected convolutions before its outputs, got none")
    extractor = onnx.utils.Extractor(graph)
    inputs = [tensor.name for tensor in graph.graph.input]
    head = extractor.extract_model(inputs, sorted(fields))
    tail = extractor.extract_model(sorted(fields), outputs)
    return head.SerializeToString(), tail.SerializeToString()
