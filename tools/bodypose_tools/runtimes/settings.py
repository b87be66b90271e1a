"""The runtime that executes a graph, and the arithmetic in it."""

from __future__ import annotations

from enum import StrEnum


class GraphRuntime(StrEnum):
    """The runtime that executes an ONNX file when it is evaluated."""

    ONNX_RUNTIME = "onnxruntime"
    OPENVINO = "openvino"  # as served
    OPENVINO_BF16 = "openvino-bf16"  # as served with `build-repo --precision bf16`

    @property
    def in_float32(self) -> GraphRuntime:
        """The same runtime in float32, for the reference of a comparison."""
        return GraphRuntime.OPENVINO if self is GraphRuntime.OPENVINO_BF16 else self


class Precision(StrEnum):
    """Arithmetic in which OpenVINO runs the network."""

    F32 = "f32"
    BF16 = "bf16"
