"""The shipped model beside other networks: BodyPoseNet's VGG19 unpruned, and MoveNet MultiPose."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_tools.data.photos import photo_jpeg
from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.runtimes.clock import compared, take_turns
from bodypose_tools.runtimes.predictors import openvino_predictor
from pose_runtime.grouping import people_in_image
from pose_runtime.images import network_pixels
from pose_runtime.spec import ImageLimits, PipelineSpec

from .conditions import Setting
from .in_process import pipeline
from .movenet import average_precision, input_hw, people
from .networks import Graph, onnxruntime_graph, openvino_graph
from .settings import Effort

_PRECISIONS = ("f32", "bf16")


@dataclass(frozen=True, slots=True)
class Contest:
    """The networks beside the shipped model, and the annotations for AP.

    movenet: the ONNX file of `tools import-movenet-graph`; None: without MoveNet.
    int8: the shipped model's INT8 file; None: without it.
    annotations: COCO file of the setting's images; None: AP is not compared.
    """

    movenet: Path | None = None
    int8: Path | None = None
    annotations: Path | None = None


def measure(setting: Setting, contest: Contest) -> dict[str, Any]:
    """Milliseconds of one photo end to end, by network in turns, and AP by network.

    The full effort also measures VGG19, which is built and exported with random weights.
    """
    jpeg = photo_jpeg(640, 480)
    ours = _our_sides(setting, contest)
    sides: dict[str, Callable[[], object]] = {
        name: pipeline(replace(setting, model=model), jpeg, setting.threads, precision)
        for name, (model, precision) in ours.items()
    }
    if setting.effort is Effort.FULL:
        sides["bodypose-vgg19, onnxruntime f32"] = _vgg19(setting, jpeg)
    if contest.movenet is not None:
        for precision in _PRECISIONS:
            shapes = [(1, *input_hw(), 3)]
            network = openvino_graph(contest.movenet, setting.threads, precision, shapes)
            sides[f"movenet-multipose, openvino {precision}"] = partial(
                _movenet, network, jpeg, setting.spec.limits
            )
    # Twice in a row, because the first call has the caches of the side before.
    seconds = take_turns(sides, rounds=setting.pick(10, 20), repeats=2)
    scores = {}
    if contest.annotations is not None and setting.images is not None:
        scores = _average_precisions(setting, contest, contest.annotations, setting.images)
    return {"sides": compared(seconds, next(iter(sides))), "ap": scores}


def _our_sides(setting: Setting, contest: Contest) -> dict[str, tuple[Path, str]]:
    """Graph and precision by name."""
    ours = {
        f"shipped, openvino {precision}": (setting.model, precision) for precision in _PRECISIONS
    }
    if contest.int8 is not None:
        ours["shipped, in INT8, openvino bf16"] = (contest.int8, "bf16")
    return ours


def _average_precisions(
    setting: Setting, contest: Contest, annotations: Path, images: Path
) -> dict[str, float]:
    """AP by side, on the same images; MoveNet's in float32 only."""
    scores = {}
    for name, (model, precision) in _our_sides(setting, contest).items():
        predict = openvino_predictor(model, setting.spec, precision)
        metrics = evaluate_model(predict, setting.spec, annotations, images)
        scores[name] = round(metrics.ap, 4)
    if contest.movenet is not None:
        network = openvino_graph(contest.movenet, setting.threads)
        metrics = average_precision(setting, network, annotations, images)
        scores["movenet-multipose, openvino f32"] = round(metrics.ap, 4)
    return scores


def _vgg19(setting: Setting, jpeg: bytes) -> Any:
    """VGG19 with random weights, which do not change its time."""
    from bodypose_tools.export.onnx_from_keras import export_onnx
    from bodypose_tools.networks.decoding import DecodeSettings
    from bodypose_tools.networks.keras_files import save_network
    from bodypose_tools.networks.network import build_network
    from bodypose_tools.networks.settings import NetworkConfig

    spec = setting.spec
    with tempfile.TemporaryDirectory() as folder:
        keras_file, onnx_file = Path(folder) / "vgg19.keras", Path(folder) / "vgg19.onnx"
        network = build_network(NetworkConfig(architecture="bodypose-vgg19"), spec.skeleton)
        save_network(network, keras_file, "benchmark", spec, settings={})
        export_onnx(
            keras_file,
            onnx_file,
            network_hw=spec.network_hw,
            decode=DecodeSettings(max_peaks=spec.max_peaks),
            samples=lambda hw: np.full((1, *hw, 3), 128, np.uint8),
        )
        graph = onnxruntime_graph(onnx_file.read_bytes(), setting.threads)
    return partial(_ours, graph, jpeg, spec)


def _ours(graph: Graph, jpeg: bytes, spec: PipelineSpec) -> None:
    pixels, letterbox = network_pixels(jpeg, spec.network_hw, spec.limits)
    peaks, limb_scores = graph(pixels[None])
    people_in_image(peaks[0], limb_scores[0], letterbox.to_geometry(), spec)


def _movenet(network: Graph, jpeg: bytes, limits: ImageLimits) -> None:
    """Run MoveNet, whose graph groups people itself."""
    pixels, _ = network_pixels(jpeg, input_hw(), limits)
    people(network, pixels)
