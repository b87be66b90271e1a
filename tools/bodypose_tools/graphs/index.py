"""An index of an ONNX graph: which node makes a tensor, which read it, what is constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

OPSET = 17  # of exported graphs; older ones are converted when they are adopted
CONVOLUTIONS = ("Conv", "ConvTranspose")
WEIGHTED = (*CONVOLUTIONS, "Gemm", "MatMul")


class OnnxGraph:
    """The nodes and constants of a graph; nodes in topological order.

    A node without a name gets one, in the model itself.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        taken = {node.name for node in self.nodes}
        for number, node in enumerate(self.nodes):
            if not node.name:
                node.name = f"{node.op_type}_{number}"
                while node.name in taken:
                    node.name += "_"
                taken.add(node.name)
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.outputs = {output.name for output in model.graph.output}

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initializer, or an initializer behind a Cast."""
        if name in self._initializers:
            return True
        node = self.producer.get(name)
        return node is not None and node.op_type == "Cast" and node.input[0] in self._initializers

    def constant(self, name: str) -> NDArray[Any]:
        """The values of a constant, in the type that its readers get."""
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        node = self.producer[name]
        to = onnx.helper.tensor_dtype_to_np_dtype(attribute(node, "to", 0))
        return numpy_helper.to_array(self._initializers[node.input[0]]).astype(to)

    def is_weighted(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a convolution or matrix product with constant weights."""
        return node.op_type in WEIGHTED and self.is_constant(node.input[1])

    def readers(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The nodes that read an output of `node`."""
        for name in node.output:
            yield from self.consumers.get(name, ())

    def leading_to_weights(self) -> set[str]:
        """Names of nodes from which a later weighted node can be reached."""
        leading: set[str] = set()
        for node in reversed(self.nodes):
            if any(self.is_weighted(r) or r.name in leading for r in self.readers(node)):
                leading.add(node.name)
        return leading

    def leading_to_outputs(self) -> set[str]:
        """Names of nodes from which an output can be reached past no other weighted node.

        Those with weights are the heads; what follows them decodes.
        """
        leading: set[str] = set()
        for node in reversed(self.nodes):
            after = (r for r in self.readers(node) if not self.is_weighted(r))
            if self.outputs & set(node.output) or any(r.name in leading for r in after):
                leading.add(node.name)
        return leading

    def following_weights(self) -> set[str]:
        """Names of nodes that an earlier weighted node reaches."""
        following: set[str] = set()
        for node in self.nodes:
            makers = (self.producer[name] for name in node.input if name in self.producer)
            if any(self.is_weighted(maker) or maker.name in following for maker in makers):
                following.add(node.name)
        return following


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a graph uses; 0 where it uses none."""
    return max((entry.version for entry in model.opset_import if not entry.domain), default=0)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute; `default` where the node has none of this name."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def macs_of(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of one image by weighted node.

    A node whose output has unknown sides counts as many as it has weights.
    """
    known = onnx.shape_inference.infer_shapes(model).graph
    values = (*known.input, *known.value_info, *known.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    graph = OnnxGraph(model)
    macs = {}
    for node in graph.nodes:
        if graph.is_weighted(node):
            weights = graph.constant(node.input[1])
            # Each weight is used once a cell of the output, or of a transposed convolution's input.
            seen = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
            cells = [size for size in shapes.get(seen, [])[2:] if size]
            macs[node.name] = int(weights.size * np.prod(cells, dtype=np.int64))
    return macs


def replace_nodes(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto]
) -> None:
    """Give a model, in place, these nodes and more initializers, without what no output needs.

    For passes, on the copy that they return.
    """
    needed = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed.update(node.input)
    stored = [t for t in (*model.graph.initializer, *initializers) if t.name in needed]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(kept))
    model.graph.initializer.extend(stored)
