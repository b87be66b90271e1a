"""The network on an NVIDIA GPU in TensorRT, from a plan of `tools build-engine`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError
from .spec import NUMPY_DTYPES, PipelineSpec, TensorSpec

Array = NDArray[Any]


def tensorrt_network(
    plan: Path, spec: PipelineSpec, instance: int = 0
) -> Callable[[Array], list[Array]]:
    """The network as a function: pixels (B, H, W, 3) uint8 to peaks and limb scores, for any B.

    Args:
        plan: engine, with the record of `tools build-engine` beside it.
        spec: its tensors.
        instance: number of this process; instances are dealt to the GPUs in turn.

    Raises:
        EngineError: TensorRT, its version, cuda-python or a GPU is missing, or the engine does not
            load.
    """
    described = json.loads(plan.with_name(f"{plan.name}.json").read_text())["settings"]
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise EngineError(
            f"expected the package tensorrt, got {error}; run `pip install"
            f" tensorrt=={described['runtime_version']}`"
        ) from error
    cuda = Cuda(cuda_runtime(), instance)
    engine = load_engine(plan, trt, described, cuda.gpu_name)
    return engine_network(engine, cuda, spec, int(described["max_batch_size"]))


def load_engine(plan: Path, trt: Any, described: dict[str, Any], gpu_name: str) -> Any:
    """TensorRT's `ICudaEngine`.

    Args:
        plan: engine.
        trt: NVIDIA's Python module.
        described: the plan's record: `runtime`, `runtime_version` and `version_compatible`.
        gpu_name: of the GPU that is to run it, for messages.

    Raises:
        EngineError: it is for another version or another GPU.
    """
    is_compatible = described["version_compatible"]
    if described["runtime_version"] != trt.__version__ and not is_compatible:
        raise EngineError(
            f"{plan}: expected {described['runtime']} {described['runtime_version']}, got"
            f" {trt.__version__}; install that version, or run `tools build-engine` here"
        )
    logger = logger_of(trt)
    runtime = trt.Runtime(logger)
    if is_compatible:
        runtime.engine_host_code_allowed = True  # the plan contains its own runtime
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise EngineError(
            f"{plan}: expected an engine for {gpu_name}, got {logger.last}; run `tools"
            " build-engine` on this machine"
        )
    return engine


def logger_of(trt: Any, warn: Callable[[str], None] = lambda message: None) -> Any:
    """NVIDIA's logger: `last` keeps the last error for our messages, `warn` gets warnings."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.last = message
            elif severity == trt.ILogger.Severity.WARNING:
                warn(message)

    return Logger()


def engine_network(
    engine: Any, cuda: Cuda, spec: PipelineSpec, max_batch_size: int
) -> Callable[[Array], list[Array]]:
    """An engine as the network, with buffers of its own on the GPU.

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

    def part(pixels: Array) -> list[Array]:
        cuda.upload(address[spec.pixels.name], np.ascontiguousarray(pixels))
        context.set_input_shape(spec.pixels.name, pixels.shape)
        if not context.execute_async_v3(cuda.stream):
            raise EngineError(f"expected the engine to run a batch of {len(pixels)}, got a failure")
        outputs = [np.empty((len(pixels), *t.dims), np.float32) for t in tensors[1:]]
        for tensor, output in zip(tensors[1:], outputs, strict=True):
            cuda.download(output, address[tensor.name])
        cuda.synchronize()
        return outputs

    def run(pixels: Array) -> list[Array]:
        firsts = range(0, len(pixels), max_batch_size)
        parts = [part(pixels[first : first + max_batch_size]) for first in firsts]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    return run


class Cuda:
    """Memory and one stream of a GPU, through `cuda.bindings.runtime`."""

    def __init__(self, runtime: Any, instance: int = 0) -> None:
        """Take a GPU: instances are dealt to them in turn.

        Raises:
            EngineError: there is none.
        """
        self._runtime = runtime
        self._kinds = runtime.cudaMemcpyKind
        try:
            device = instance % int(self._call("cudaGetDeviceCount"))
            self._call("cudaSetDevice", device)
            properties = self._call("cudaGetDeviceProperties", device)
        except EngineError as error:
            raise EngineError(
                f"expected an NVIDIA GPU to run the engine on, got {error}; run this on the machine"
                " that built it"
            ) from error
        self.gpu_name = str(properties.name.decode())
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

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._runtime, name)(*arguments)
        if int(status) != 0:
            raise EngineError(f"{name}: {getattr(status, 'name', status)}")
        return values[0] if values else None


def cuda_runtime() -> Any:
    """NVIDIA's Python module of the CUDA runtime.

    Raises:
        EngineError: it is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineError(
            f"expected cuda-python, got {error}; run `pip install cuda-python` in the version of"
            " your CUDA driver"
        ) from error


def _bytes(tensor: TensorSpec) -> int:
    item = np.dtype(NUMPY_DTYPES[tensor.dtype]).itemsize
    return int(np.prod(tensor.dims)) * item
