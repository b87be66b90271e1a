"""Owns how much a graph of lower precision may lose; light, because command lines show it."""

from __future__ import annotations

from enum import StrEnum

MAX_JOINT_SHIFT = 4.0  # network pixels: half a cell of the fields
MIN_AGREEMENT = 0.99  # share of joints that may not be further away, or gone
MAX_AP_DROP = 0.005


class GraphRuntime(StrEnum):
    """What runs an ONNX file to judge it."""

    ONNX_RUNTIME = "onnxruntime"
    OPENVINO = "openvino"  # as served
    OPENVINO_BF16 = "openvino-bf16"  # as served with `build-repo --precision bf16`

    @property
    def in_float32(self) -> GraphRuntime:
        """The same runtime, for the side that others are held against."""
        return GraphRuntime.OPENVINO if self is GraphRuntime.OPENVINO_BF16 else self
