"""Predictors for every kind of model file: `.keras`, ONNX and TensorRT engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.graphs.contract import spec_in_onnx
from pose_runtime.spec import PipelineSpec

from .cpu import onnx_session, openvino_model
from .predictor import Floats, Predictor, PredictorError, of_a_network
from .settings import GraphRuntime

if TYPE_CHECKING:
    import keras
    import openvino


ENGINE_SUFFIXES = (".plan", ".engine")


def network_predictor(network: keras.Model, spec: PipelineSpec) -> Predictor:
    """A predictor that runs a Keras network, with its own weights and decoding layers appended."""
    import keras

    from bodypose_tools.networks.decoding import DecodeSettings, decode_fields
    from bodypose_tools.networks.fields import Fields

    pixels = keras.Input((*spec.network_hw, 3), dtype="uint8")
    fields = Fields.of(network(pixels, training=False))
    settings = DecodeSettings(max_peaks=spec.max_peaks)
    decoder = keras.Model(pixels, decode_fields(fields, spec.skeleton, settings, spec.network_hw))

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        peaks, limb_scores = decoder.predict_on_batch(batch)
        return np.asarray(peaks), np.asarray(limb_scores)

    return predict


def open_predictor(
    model: Path, runtime: GraphRuntime = GraphRuntime.ONNX_RUNTIME, threads: int | None = None
) -> tuple[Predictor, PipelineSpec, Artifact]:
    """A predictor that runs a `.keras`, `.onnx` or `.plan` file, its pipeline, and the file.

    Args:
        model: the file, with its record.
        runtime: runs an `.onnx` file. Layers that are not quantised compute in float32, except in
            `OPENVINO_BF16`.
        threads: number of CPU threads that run an `.onnx` file; None: all cores.

    Raises:
        ModelFileError, OnnxError: the file is not a model of this project.
        EngineError: the engine cannot run here; the message says what to install or where to run.
        MissingArtifactError, StaleArtifactError: no such file, or it changed after it was made.
        PredictorError: the runtime refuses the graph, now or when it runs.
    """
    predict, spec, artifact = _opened(model, runtime, threads)
    expected = (spec.peaks.dims, spec.limb_scores.dims)

    def checked(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        with of_a_network(model):
            outputs = predict(batch)
        got = tuple(output.shape[1:] for output in outputs)
        if got != expected:
            raise PredictorError(f"{model}: expected outputs of {expected}, got {got}")
        return outputs

    return checked, spec, artifact


def _opened(
    model: Path, runtime: GraphRuntime, threads: int | None
) -> tuple[Predictor, PipelineSpec, Artifact]:
    if model.suffix == ".onnx":
        artifact = Artifact.open(model)
        spec = spec_in_onnx(model)
        with of_a_network(model):
            match runtime:
                case GraphRuntime.ONNX_RUNTIME:
                    predictor = onnx_predictor(model, spec, threads or 0)
                case GraphRuntime.OPENVINO:
                    predictor = openvino_predictor(model, spec, threads=threads)
                case GraphRuntime.OPENVINO_BF16:
                    predictor = openvino_predictor(model, spec, "bf16", threads)
                case GraphRuntime.CUDA:
                    predictor = cuda_predictor(model, spec, "f16")
                case GraphRuntime.CUDA_F32:
                    predictor = cuda_predictor(model, spec, "f32")
        return predictor, spec, artifact
    if model.suffix in ENGINE_SUFFIXES:
        from .engine import open_engine

        return open_engine(model)
    from bodypose_tools.networks.keras_files import load_network

    network, spec, artifact = load_network(model)
    with of_a_network(model):
        return network_predictor(network, spec), spec, artifact


def onnx_predictor(path: Path, spec: PipelineSpec, threads: int = 0) -> Predictor:
    """A predictor that runs an exported graph in ONNX Runtime; `threads` as in `onnx_session`."""
    session = onnx_session(path, threads)
    outputs = [spec.peaks.name, spec.limb_scores.name]

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        peaks, limb_scores = session.run(outputs, {spec.pixels.name: batch})
        return peaks, limb_scores

    return predict


def openvino_predictor(
    path: Path, spec: PipelineSpec, precision: str = "f32", threads: int | None = None
) -> Predictor:
    """A predictor that runs an exported graph in OpenVINO, as the embedded server does.

    It runs image by image with fixed shapes: with free shapes OpenVINO fuses INT8 differently.
    """
    compiled = openvino_model(path, precision, threads, [[1, *spec.pixels.dims]])
    return compiled_predictor(compiled, spec)


def compiled_predictor(compiled: openvino.CompiledModel, spec: PipelineSpec) -> Predictor:
    """A predictor that runs a graph that OpenVINO compiled for one image."""
    request = compiled.create_infer_request()
    outputs = [compiled.output(tensor.name) for tensor in (spec.peaks, spec.limb_scores)]

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        found: list[list[Floats]] = []
        for image in batch:
            results = request.infer({spec.pixels.name: image[None]})
            found.append([np.array(results[output]) for output in outputs])
        peaks, limb_scores = (np.concatenate(each) for each in zip(*found, strict=True))
        return peaks, limb_scores

    return predict


def cuda_predictor(path: Path, spec: PipelineSpec, precision: str) -> Predictor:
    """A predictor that runs an exported graph on an NVIDIA GPU, as the server does there."""
    from pose_runtime.cuda_network import cuda_network

    run = cuda_network(path, spec, precision, (1, 8))

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        peaks, limb_scores = run(batch)
        return peaks, limb_scores

    return predict
