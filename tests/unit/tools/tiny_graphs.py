"""ONNX graphs small enough to draw: a name per node, one input `x` (1, 3, 8, 8)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bodypose_tools.runtimes.cpu import onnx_session

FLOAT = onnx.TensorProto.FLOAT


class Tiny:
    """Collects nodes; every method returns the name of the tensor that its node makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def constant(self, name: str, values) -> str:
        self.stored.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, name: str, *inputs: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def conv(self, name: str, source: str, channels: tuple[int, int], kernel=1, group=1) -> str:
        """A convolution from channels[0] to channels[1] with random weights and bias."""
        shape = (channels[1], channels[0] // group, kernel, kernel)
        weights = self.constant(f"{name}_w", self.rng.normal(size=shape).astype(np.float32))
        bias = self.constant(f"{name}_b", self.rng.normal(size=channels[1]).astype(np.float32))
        pad = kernel // 2
        return self.op("Conv", name, source, weights, bias, group=group, pads=[pad] * 4)

    def stem(self) -> str:
        """The first convolution, 3 to 16 channels."""
        return self.conv("stem", "x", (3, 16))

    def model(self, *outputs: str, rank: int = 4) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("x", FLOAT, (1, 3, 8, 8))],
            [helper.make_tensor_value_info(name, FLOAT, [None] * rank) for name in outputs],
            self.stored,
        )
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def run(model: onnx.ModelProto, seed: int = 1) -> list[np.ndarray]:
    session = onnx_session(model.SerializeToString())
    x = np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32)
    return session.run(None, {"x": x})
