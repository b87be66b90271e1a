"""What a person may choose of a model repository: its folder, target, and network backend."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

DEFAULT_REPOSITORY = Path("build/model_repository")


class ServerTarget(StrEnum):
    """The server that a repository is built for."""

    EMBEDDED = "embedded"  # the tritonserver of the nvidia-pytriton wheel
    CPU = "cpu"  # the stock container
    GPU = "gpu"  # the stock container, with a plan or with PyTorch


class NetworkBackend(StrEnum):
    """Triton's backend of the network step."""

    PYTHON = "python"  # model.py, with OpenVINO or CUDA
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


class NetworkPrecision(StrEnum):
    """Arithmetic of a repository's network."""

    AUTO = "auto"  # of a shipped model: what this CPU runs best
    F32 = "f32"
    BF16 = "bf16"  # on CPUs that have it
    INT8 = "int8"  # of a shipped model; what is not INT8 in bf16 where the CPU has it
    F16 = "f16"  # on GPUs
