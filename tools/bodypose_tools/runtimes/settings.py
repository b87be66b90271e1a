"""The runtime that executes a graph, and the arithmetic in it."""

from __future__ import annotations

from enum import StrEnum


class GraphRuntime(StrEnum):
    """The runtime that executes an ONNX file when it is evaluated."""

    ONNX_RUNTIME = "onnxruntime"
    OPENVINO = "openvino"  # as served
    OPENVINO_BF16 = "openvino-bf16"  # as served with `build-repo --precision bf16`
    CUDA = "cuda"  # as served with `build-repo --device cuda`
    CUDA_F32 = "cuda-f32"

    @property
    def in_float32(self) -> GraphRuntime:
        """The same runtime in float32, for the reference of a comparison."""
        return {
            GraphRuntime.OPENVINO_BF16: GraphRuntime.OPENVINO,
            GraphRuntime.CUDA: GraphRuntime.CUDA_F32,
        }.get(self, self)


class Precision(StrEnum):
    """Arithmetic of the network, where its graph is not INT8."""

    F32 = "f32"
    BF16 = "bf16"  # on CPUs that have it
    F16 = "f16"  # on GPUs


class Device(StrEnum):
    """What computes the network."""

    CPU = "cpu"
    CUDA = "cuda"  # an NVIDIA GPU, without TensorRT
