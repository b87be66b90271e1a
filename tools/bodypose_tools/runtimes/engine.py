"""A TensorRT engine on the GPU as a `Predictor`, through cuda-python.

Images have one scale, letterboxed to the size that the engine was built for.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.engines.build import engine_record, load_runtime, logger_of
from bodypose_tools.engines.settings import EngineError, EngineRuntime
from bodypose_tools.files.artifacts import Artifact
from pose_runtime.spec import NUMPY_DTYPES, PipelineSpec, TensorSpec

from .predictor import Floats, Predictor


def open_engine(plan: Path) -> tuple[Predictor, PipelineSpec, Artifact]:
    """A predictor that runs an engine, its pipeline, and the file.

    Raises:
        EngineError: the file has no record of `tools build-engine`; TensorRT, its version,
            cuda-python or a GPU is missing; or the engine does not load.
        MissingArtifactError, StaleArtifactError: no such file, or it changed after it was made.
    """
    record = engine_record(plan)
    spec = PipelineSpec.from_json(json.dumps(record["pipeline"]))
    trt = load_runtime(EngineRuntime(record["runtime"]))
    _refuse_other_version(plan, record, trt.__version__)
    cuda = Cuda(_cuda_runtime())
    logger = logger_of(trt, lambda line: None)
    runtime = trt.Runtime(logger)
    if record["version_compatible"]:
        runtime.engine_host_code_allowed = True  # the plan contains its own runtime
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise EngineError(
            f"{plan}: expected an engine for {cuda.gpu_name}, got {logger.last}; run `tools"
            " build-engine` on this machine"
        )
    predict = engine_predictor(engine, cuda, spec, int(record["max_batch_size"]))
    return predict, spec, Artifact.open(plan)


def engine_predictor(engine: Any, cuda: Cuda, spec: PipelineSpec, max_batch_size: int) -> Predictor:
    """A predictor with buffers of its own on the GPU.

    Args:
        engine: TensorRT's `ICudaEngine`.
        cuda: memory and stream of the GPU on which the engine was loaded.
        spec: tensors of the engine.
        max_batch_size: the largest of the engine's profile; larger batches run in parts.

    Raises:
        EngineError: the engine has other tensors, or an execution fails.
    """
    tensors = (spec.pixels, spec.peaks, spec.limb_scores)
    for tensor in tensors:
        shape = tuple(engine.get_tensor_shape(tensor.name))
        if shape[1:] != tensor.dims:
            raise EngineError(f"expected `{tensor.name}` {tensor.dims}, got {shape[1:]}")
    context = engine.create_execution_context()
    address = {tensor.name: cuda.allocate(max_batch_size * _bytes(tensor)) for tensor in tensors}
    for name, pointer in address.items():
        context.set_tensor_address(name, pointer)

    def run(pixels: NDArray[np.uint8]) -> list[Floats]:
        cuda.upload(address[spec.pixels.name], np.ascontiguousarray(pixels))
        context.set_input_shape(spec.pixels.name, pixels.shape)
        if not context.execute_async_v3(cuda.stream):
            raise EngineError(f"expected the engine to run a batch of {len(pixels)}, got a failure")
        outputs = [np.empty((len(pixels), *t.dims), np.float32) for t in tensors[1:]]
        for tensor, output in zip(tensors[1:], outputs, strict=True):
            cuda.download(output, address[tensor.name])
        cuda.synchronize()
        return outputs

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        parts = [run(batch[i : i + max_batch_size]) for i in range(0, len(batch), max_batch_size)]
        peaks, limb_scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        return peaks, limb_scores

    return predict


class Cuda:
    """Memory and one stream of the first GPU, through `cuda.bindings.runtime`."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._kinds = runtime.cudaMemcpyKind
        self.gpu_name = self._gpu_name()
        self.stream = int(self._call("cudaStreamCreate"))

    def allocate(self, size: int) -> int:
        """The address of `size` bytes on the GPU, which the end of the process frees."""
        return int(self._call("cudaMalloc", size))

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copies a contiguous array to the GPU."""
        kind = self._kinds.cudaMemcpyHostToDevice
        self._copy(address, array.ctypes.data, array.nbytes, kind)

    def download(self, array: NDArray[Any], address: int) -> None:
        """Fills `array` once `synchronize` has returned."""
        kind = self._kinds.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, kind)

    def synchronize(self) -> None:
        """Waits until every copy and execution on the stream has ended."""
        self._call("cudaStreamSynchronize", self.stream)

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        self._call("cudaMemcpyAsync", to, source, size, kind, self.stream)

    def _gpu_name(self) -> str:
        try:
            properties = self._call("cudaGetDeviceProperties", 0)
        except EngineError as error:
            raise EngineError(
                f"expected an NVIDIA GPU to run the engine on, got {error}; run this on the machine"
                " that built it"
            ) from error
        return str(properties.name.decode())

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._runtime, name)(*arguments)
        if int(status) != 0:
            raise EngineError(f"{name}: {getattr(status, 'name', status)}")
        return values[0] if values else None


def _cuda_runtime() -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineError(
            f"expected cuda-python, got {error}; run `pip install cuda-python` in the version of"
            " your CUDA driver"
        ) from error


def _refuse_other_version(plan: Path, record: dict[str, Any], here: str) -> None:
    if record["runtime_version"] != here and not record["version_compatible"]:
        raise EngineError(
            f"{plan}: expected {record['runtime']} {record['runtime_version']}, got {here}; install"
            " that version, or run `tools build-engine` here"
        )


def _bytes(tensor: TensorSpec) -> int:
    item = np.dtype(NUMPY_DTYPES[tensor.dtype]).itemsize
    return int(np.prod(tensor.dims)) * item
