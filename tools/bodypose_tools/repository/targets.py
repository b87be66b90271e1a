"""The targets of `tools build-repo`: a server, and the backend that runs the network in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .releases import EMBEDDED, RECENT, TritonVersion
from .settings import NetworkBackend, ServerTarget
from .tuning import UNTUNED, UNTUNED_CUDA, Tuning

# File of the network in its version folder.
MODEL_FILES: Final = {
    NetworkBackend.PYTHON: "model.onnx",
    NetworkBackend.ONNXRUNTIME: "model.onnx",
    NetworkBackend.OPENVINO: "model.onnx",
    NetworkBackend.TENSORRT: "model.plan",
}
MAX_BATCH_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class Serving:
    """A server for the network, its backend, and its settings."""

    target: ServerTarget = ServerTarget.EMBEDDED
    backend: NetworkBackend = NetworkBackend.PYTHON
    triton: TritonVersion = EMBEDDED
    max_batch_size: int = MAX_BATCH_SIZE
    tuning: Tuning = UNTUNED
    plan_batch: int = 0  # largest batch of a plan that model.py runs; 0: it runs an ONNX file

    @property
    def model_file(self) -> str:
        """Name of the network's file in its version folder."""
        return MODEL_FILES[NetworkBackend.TENSORRT if self.plan_batch else self.backend]

    @property
    def takes_a_plan(self) -> bool:
        """Whether the network's file is a TensorRT plan."""
        return self.model_file == MODEL_FILES[NetworkBackend.TENSORRT]


def tuned(tuning: Tuning) -> Serving:
    """The embedded server with settings, as `tools tune` finds them."""
    return Serving(tuning=tuning)


def cpu(
    triton: TritonVersion = RECENT,
    backend: NetworkBackend = NetworkBackend.ONNXRUNTIME,
    tuning: Tuning = UNTUNED,
) -> Serving:
    """A stock container without a GPU."""
    return Serving(ServerTarget.CPU, backend, triton, tuning=tuning)


def cuda_in_container(triton: TritonVersion = RECENT, tuning: Tuning = UNTUNED_CUDA) -> Serving:
    """A stock container with a GPU and PyTorch, from an ONNX file."""
    return Serving(ServerTarget.GPU, NetworkBackend.PYTHON, triton, tuning=tuning)


def plan_in_python(max_batch_size: int, tuning: Tuning = UNTUNED_CUDA) -> Serving:
    """The embedded server with TensorRT's Python package; `max_batch_size` is the plan's."""
    return Serving(
        max_batch_size=min(MAX_BATCH_SIZE, max_batch_size),
        tuning=replace(tuning, network_batch=max_batch_size),
        plan_batch=max_batch_size,
    )


def gpu(max_batch_size: int, triton: TritonVersion = RECENT, tuning: Tuning = UNTUNED) -> Serving:
    """A stock container with a GPU; `max_batch_size` is the plan's."""
    return Serving(ServerTarget.GPU, NetworkBackend.TENSORRT, triton, max_batch_size, tuning)
