"""Our networks beside others: BodyPoseNet's VGG19 unpruned, and MoveNet MultiPose."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bodypose_client.scoring.annotations import people_of
from bodypose_client.scoring.coco_eval import annotated_sigmas, evaluate_with_matches
from bodypose_client.scoring.comparison import compare
from bodypose_client.scoring.oks_matches import OksMatches
from bodypose_tools.data.coco import read_coco
from bodypose_tools.data.photos import photo_jpeg
from bodypose_tools.evaluation.offline import coco_results_of, find_people
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.settings import ShippedModel
from bodypose_tools.files.shipped import float_graph, int8_graph
from bodypose_tools.results.ratios import paired_ratio
from bodypose_tools.runtimes.clock import compared, take_turns
from bodypose_tools.runtimes.cpu import cpu_flags, has_bfloat16, has_int8
from bodypose_tools.runtimes.predictor import PredictorError, of_a_network
from bodypose_tools.runtimes.predictors import openvino_predictor
from pose_runtime.grouping import people_in_image
from pose_runtime.images import network_pixels
from pose_runtime.spec import ImageLimits, PipelineSpec

from .conditions import Setting
from .in_process import pipeline
from .movenet import PEOPLE_SHAPE, input_hw, people, results_of
from .networks import Graph, onnxruntime_graph, openvino_graph
from .settings import Effort

MOVENET: Final = "movenet-multipose"
VGG19: Final = "bodypose-vgg19"


@dataclass(frozen=True, slots=True)
class Contest:
    """The networks beside ours, and the annotations for AP.

    movenet: the ONNX file of `tools import-movenet-graph`; None: without MoveNet.
    annotations: COCO file of the setting's images; None: AP is not compared.
    """

    movenet: Path | None = None
    annotations: Path | None = None


def measure(setting: Setting, contest: Contest) -> dict[str, Any]:
    """Milliseconds of one photo end to end, by network in turns, and AP by network.

    Every network runs in each precision that this CPU has: float32, bfloat16, INT8 with bfloat16.
    Of the shipped model both sizes are measured. The full effort also measures VGG19, which is
    built and exported with random weights.

    Returns:
        sides: of each side milliseconds, and how many times as fast as the first it is.
        against: by rival and side of ours, how many times as fast ours is, in paired turns.
        ap: of each side AP and its 95 % interval, and by rival where the difference lies.
    """
    jpeg = photo_jpeg(640, 480)
    precisions = ("f32", "bf16") if has_bfloat16(cpu_flags()) else ("f32",)
    ours = our_sides(setting.model, precisions)
    sides: dict[str, Callable[[], object]] = {
        name: pipeline(replace(setting, model=model), jpeg, setting.threads, precision)
        for name, (model, precision) in ours.items()
    }
    rivals: list[str] = []
    if setting.effort is Effort.FULL:
        rivals.append(f"{VGG19}, onnxruntime f32")
        sides[rivals[-1]] = _vgg19(setting, jpeg)
    if contest.movenet is not None:
        for precision in precisions:
            network = _movenet_graph(setting, contest.movenet, precision)
            rivals.append(f"{MOVENET}, openvino {precision}")
            sides[rivals[-1]] = partial(_movenet, network, jpeg, setting.spec.limits)
    # Twice in a row, because the first call has the caches of the side before.
    seconds = take_turns(sides, rounds=setting.pick(10, 40), repeats=2)
    against = {
        rival: {name: paired_ratio(seconds[rival], seconds[name]).to_json() for name in ours}
        for rival in rivals
    }
    scores = {}
    if contest.annotations is not None and setting.images is not None:
        matches = _matches(setting, contest, ours, precisions)
        scores = _scores(matches)
    return {"sides": compared(seconds, next(iter(sides))), "against": against, "ap": scores}


def our_sides(model: Path, precisions: tuple[str, ...]) -> dict[str, tuple[Path, str]]:
    """Graph and precision by name; of the shipped model both sizes, in INT8, too."""
    shipped = [float_graph(size) for size in ShippedModel]
    graphs = shipped if model in shipped else [model]
    sides = {
        f"{graph.stem}, openvino {precision}": (graph, precision)
        for graph in graphs
        for precision in precisions
    }
    if model in shipped and has_int8(cpu_flags()):
        for size in ShippedModel:
            best = precisions[-1]
            sides[f"{size} in INT8, openvino {best}"] = (int8_graph(size), best)
    return sides


def measured_graphs(model: Path) -> list[Path]:
    """The graphs that `measure` runs beside the rivals, each once."""
    return list(dict.fromkeys(graph for graph, _ in our_sides(model, ("f32",)).values()))


def _matches(
    setting: Setting,
    contest: Contest,
    ours: Mapping[str, tuple[Path, str]],
    precisions: tuple[str, ...],
) -> dict[str, OksMatches]:
    """The people that each side finds on the setting's images, matched with the annotated ones."""
    annotations, images, spec = contest.annotations, setting.images, setting.spec
    assert annotations is not None
    assert images is not None
    records = read_coco(annotations, images, spec.skeleton)
    content = people_of(annotations, spec.skeleton)
    ids = [record.image_id for record in records]

    def matched(results: list[dict[str, Any]]) -> OksMatches:
        return evaluate_with_matches(content, results, ids, annotated_sigmas(spec.skeleton))[1]

    matches = {}
    for name, (model, precision) in ours.items():
        own = replace(setting, model=model).spec
        found = find_people(openvino_predictor(model, own, precision), records, own)
        matches[name] = matched(coco_results_of(found, own))
    if contest.movenet is not None:
        for precision in precisions:
            network = _movenet_graph(setting, contest.movenet, precision)
            name = f"{MOVENET}, openvino {precision}"
            matches[name] = matched(results_of(records, network, spec))
    return matches


def _scores(matches: Mapping[str, OksMatches]) -> dict[str, Any]:
    """AP of each side, and where it lies above MoveNet's with 95 % confidence."""
    rivals = [name for name in matches if name.startswith(MOVENET)]
    scores: dict[str, Any] = {}
    for name, found in matches.items():
        scores[name] = {"AP": round(found.average_precision(), 4)}
        for rival in rivals if name not in rivals else ():
            difference = compare(matches[rival], found)
            scores[name][f"above {rival}"] = {
                "difference": round(difference.difference, 4),
                "low": round(difference.low, 4),
                "high": round(difference.high, 4),
            }
    return scores


def _movenet_graph(setting: Setting, movenet: Path, precision: str) -> Graph:
    """MoveNet's graph, which finds people in a grey image.

    Raises:
        MissingArtifactError, StaleArtifactError: no such file, or it changed after it was made.
        PredictorError: OpenVINO refuses it, or it is another graph.
    """
    Artifact.open(movenet)
    with of_a_network(movenet):
        network = openvino_graph(movenet, setting.threads, precision, [(1, *input_hw(), 3)])
        outputs = [np.shape(each) for each in network(np.zeros((1, *input_hw(), 3), np.int32))]
    if outputs != [PEOPLE_SHAPE]:
        raise PredictorError(
            f"{movenet}: expected the graph of `tools import-movenet-graph`, with an output of"
            f" {PEOPLE_SHAPE}, got {outputs}"
        )
    return network


def _vgg19(setting: Setting, jpeg: bytes) -> Any:
    """VGG19 with random weights, which do not change its time."""
    from bodypose_tools.export.onnx_from_keras import export_onnx
    from bodypose_tools.networks.decoding import DecodeSettings
    from bodypose_tools.networks.keras_files import save_network
    from bodypose_tools.networks.network import build_network
    from bodypose_tools.networks.settings import NetworkConfig

    spec = replace(setting.spec, network_hw=PipelineSpec().network_hw)  # BodyPoseNet's own
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
