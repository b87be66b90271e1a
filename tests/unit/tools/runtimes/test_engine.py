"""Running an engine, against a GPU made of host memory: the order of calls, parts of a batch."""

from __future__ import annotations

import ctypes
import json
import re
import sys
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.runtimes import engine as engine_running
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime import tensorrt_network as in_tensorrt
from pose_runtime.errors import EngineError
from pose_runtime.spec import PipelineSpec
from pose_runtime.tensorrt_network import Cuda, engine_network, tensorrt_network

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)


class Status(IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815


class HostMemory:
    """`cuda.bindings.runtime`, with the machine's own memory for the GPU's."""

    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2
    )

    def __init__(self, status: Status = Status.cudaSuccess) -> None:
        self.status = status
        self.blocks: list[ctypes.Array] = []

    def cudaGetDeviceProperties(self, device):  # noqa: N802
        return self.status, SimpleNamespace(name=b"GPU %d" % device)

    def cudaGetDeviceCount(self):  # noqa: N802
        return self.status, 2

    def cudaSetDevice(self, device):  # noqa: N802
        self.device = device
        return (self.status,)

    def cudaStreamCreate(self):  # noqa: N802
        return self.status, 7

    def cudaMalloc(self, size):  # noqa: N802
        self.blocks.append(ctypes.create_string_buffer(size))
        return self.status, ctypes.addressof(self.blocks[-1])

    def cudaMemcpyAsync(self, to, source, size, kind, stream):  # noqa: N802
        assert stream == 7
        ctypes.memmove(to, source, size)
        return (self.status,)

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        return (self.status,)


class Engine:
    """Answers every image with its mean; refuses batches above its profile."""

    def __init__(self, max_batch_size: int) -> None:
        self.max_batch_size = max_batch_size
        self.batches: list[int] = []
        self.address: dict[str, int] = {}

    def get_tensor_shape(self, name):
        return {
            "pixels": (-1, *SPEC.pixels.dims),
            "peaks": (-1, *SPEC.peaks.dims),
            "limb_scores": (-1, *SPEC.limb_scores.dims),
        }[name]

    def create_execution_context(self):
        return self

    def set_tensor_address(self, name, address):
        self.address[name] = address

    def set_input_shape(self, name, shape):
        self.shape = shape

    def execute_async_v3(self, stream):
        self.batches.append(self.shape[0])
        if self.shape[0] > self.max_batch_size:
            return False
        pixels = _view(self.address["pixels"], self.shape, np.uint8)
        for tensor in (SPEC.peaks, SPEC.limb_scores):
            answer = _view(self.address[tensor.name], (self.shape[0], *tensor.dims), np.float32)
            answer[:] = pixels.mean(axis=(1, 2, 3))[:, None, None, None]
        return True


def _view(address: int, shape, dtype) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


def images(count: int) -> np.ndarray:
    return np.stack([np.full(SPEC.pixels.dims, 10 * i, np.uint8) for i in range(count)])


@pytest.mark.parametrize(("count", "batches"), [(1, [1]), (4, [4]), (9, [4, 4, 1])])
def test_a_large_batch_runs_in_parts_that_the_profile_takes(count, batches):
    engine = Engine(max_batch_size=4)
    predict = engine_network(engine, Cuda(HostMemory()), SPEC, 4)

    peaks, limb_scores = predict(images(count))

    assert engine.batches == batches
    assert peaks.shape == (count, *SPEC.peaks.dims)
    assert limb_scores.shape == (count, *SPEC.limb_scores.dims)
    assert peaks[:, 0, 0, 0].tolist() == [10 * i for i in range(count)]
    assert limb_scores[:, 0, 0, 0].tolist() == [10 * i for i in range(count)]


def test_pixels_of_a_slice_are_laid_out_in_order():
    predict = engine_network(Engine(4), Cuda(HostMemory()), SPEC, 4)
    assert predict(images(6)[::3])[0][:, 0, 0, 0].tolist() == [0, 30]


def test_an_engine_that_does_not_run_is_said():
    predict = engine_network(Engine(max_batch_size=2), Cuda(HostMemory()), SPEC, 4)
    with pytest.raises(EngineError, match="expected the engine to run a batch of 4"):
        predict(images(4))


def test_an_engine_of_another_pipeline_is_refused():
    other = PipelineSpec(network_hw=(64, 48), max_peaks=3)
    with pytest.raises(EngineError, match=r"expected `pixels` \(64, 48, 3\), got \(32, 48, 3\)"):
        engine_network(Engine(4), Cuda(HostMemory()), other, 4)


# what is missing, in the order a user meets it


@pytest.fixture
def plan(tmp_path) -> Path:
    path = tmp_path / "my.plan"
    path.write_bytes(b"an engine")
    described = {
        "runtime": "tensorrt",
        "runtime_version": "11.1.0.106",
        "version_compatible": False,
        "max_batch_size": 4,
        "pipeline": json.loads(SPEC.to_json()),
    }
    Artifact.record(path, "build-engine", settings=described)
    return path


class Trt:
    """NVIDIA's module, as far as loading an engine needs it."""

    __version__ = "11.1.0.106"

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)

    class Runtime:
        engine: Engine | None = Engine(4)

        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, data):
            assert data == b"an engine"
            if self.engine is None:
                self.logger.log(Trt.ILogger.Severity.ERROR, "built for another GPU")
            return self.engine


@pytest.fixture
def nvidia(monkeypatch) -> HostMemory:
    memory = HostMemory()
    monkeypatch.setattr(engine_running, "load_runtime", lambda runtime: Trt)
    monkeypatch.setattr(engine_running, "cuda_runtime", lambda: memory)
    monkeypatch.setattr(in_tensorrt, "cuda_runtime", lambda: memory)
    return memory


def test_a_plan_is_a_model_as_the_others_are(plan, nvidia):
    predict, spec, artifact = open_predictor(plan)
    assert spec == SPEC
    assert artifact.stage == "build-engine"
    assert predict(images(2))[0].shape == (2, *SPEC.peaks.dims)


def test_without_tensorrt_the_error_says_what_to_install(plan, without_nvidia):
    with pytest.raises(EngineError, match=r"expected the package tensorrt.*docker run"):
        open_predictor(plan)


def test_another_tensorrt_is_named_before_it_refuses_the_plan(plan, nvidia, monkeypatch):
    monkeypatch.setattr(Trt, "__version__", "11.4.0.106")
    with pytest.raises(EngineError, match=r"expected tensorrt 11\.1\.0\.106, got 11\.4\.0\.106"):
        open_predictor(plan)


def test_without_a_gpu_the_error_says_where_to_run(plan, nvidia):
    nvidia.status = Status.cudaErrorInsufficientDriver
    with pytest.raises(EngineError, match=r"NVIDIA GPU.*InsufficientDriver.*machine that built it"):
        open_predictor(plan)


def test_without_cuda_python_the_error_says_what_to_install(plan, without_nvidia, monkeypatch):
    monkeypatch.setattr(engine_running, "load_runtime", lambda runtime: Trt)
    with pytest.raises(EngineError, match=r"expected cuda-python.*pip install cuda-python"):
        open_predictor(plan)


def test_an_engine_of_another_gpu_is_refused_with_tensorrts_words(plan, nvidia, monkeypatch):
    monkeypatch.setattr(Trt.Runtime, "engine", None)
    with pytest.raises(EngineError, match="for GPU 0, got built for another GPU; run"):
        open_predictor(plan)


def test_evaluate_says_what_is_lost_against_the_float_model(
    plan, nvidia, tiny_onnx, tmp_path, drawn_coco
):
    model = tiny_onnx(tmp_path / "float.onnx", SPEC)
    split = ("-a", str(drawn_coco / "people.json"), "-i", str(drawn_coco))
    result = CliRunner().invoke(app, ["evaluate", str(plan), *split, "--float_model", str(model)])
    assert result.exit_code == 0, result.output
    assert re.search(r"float\.onnx: AP \d\.\d{4}; my\.plan loses -?\d\.\d{4}", result.output)


# the same in the server's network step


def test_a_servers_step_runs_the_plan_beside_it(plan, nvidia, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", Trt)

    run = tensorrt_network(plan, SPEC, instance=3)

    assert run(images(9))[0][:, 0, 0, 0].tolist() == [10 * i for i in range(9)]
    assert nvidia.device == 1  # the fourth process, on the second of two GPUs


def test_a_servers_step_names_the_gpu_that_it_uses(plan, nvidia, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", Trt)
    monkeypatch.setattr(Trt.Runtime, "engine", None)

    with pytest.raises(EngineError, match="for GPU 1, got built for another GPU; run"):
        tensorrt_network(plan, SPEC, instance=3)


def test_a_servers_step_says_which_tensorrt_it_lacks(plan, nvidia, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    with pytest.raises(EngineError, match=r"got .*; run `pip install tensorrt==11\.1\.0\.106`"):
        tensorrt_network(plan, SPEC)
