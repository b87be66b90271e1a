"""Owns the way from a float ONNX graph to an INT8 one that passed its gates.

Calibrate, place Q/DQ, judge. When a gate is missed: measure how much each layer alone disturbs the
fields, and (with `OnMiss.MIX`) leave the fewest of the worst layers in float that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .accuracy_gate import AccuracyGateError, Judge, Verdict, first_miss
from .artifacts import Artifact, record_path
from .calibration import (
    Activations,
    CalibrationError,
    Method,
    Pixels,
    images_in_data_file,
    images_of,
    read_cache,
    scales_of,
    write_cache,
    write_data_file,
)
from .onnx_graph import OnnxGraph
from .quantize import Placement, place, quantize

MAX_GATE_IMAGES = 64
_SENSITIVITY_IMAGES = 8
_REPORTED_LAYERS = 10

Say = Callable[[str], None]


class OnMiss(StrEnum):
    """What to do when a gate is missed."""

    REPORT = "report"
    MIX = "mix"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where the scales come from."""

    images: int  # batches x batch_size
    method: Method
    image_dir: Path | None = None
    data_file: Path | None = None  # read when it exists, else written
    cache_file: Path | None = None  # read when it exists, else written


@dataclass(frozen=True, slots=True)
class Quantised:
    """An INT8 graph, and how it came about."""

    model: onnx.ModelProto
    int8_layers: int
    float_layers: tuple[str, ...]  # that could have been INT8
    verdicts: tuple[Verdict, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def calibration_images(
    calibration: Calibration, network_hw: tuple[int, int], say: Say
) -> Callable[[], Iterator[Pixels]]:
    """The calibration images, as often as they are asked for; makes the data file when missing.

    Raises:
        CalibrationError: neither folder nor data file, or too few images.
        StaleArtifactError: the data file changed after it was written.
    """
    folder, data_file, count = calibration.image_dir, calibration.data_file, calibration.images
    if data_file is not None and data_file.is_file():
        Artifact.open(data_file)
        say(f"calibration: {count} images of {data_file}")
        return lambda: images_in_data_file(data_file, count, network_hw)
    if folder is None:
        raise CalibrationError(
            "expected --cal_image_dir with training images, or an existing --cal_data_file, got"
            " neither (a cache alone does not do: the gate compares joints on them); run `tools"
            " sample-calibration-images` for a folder"
        )
    say(f"calibration: {count} images of {folder}")
    if data_file is None:
        return lambda: images_of(folder, count, network_hw)
    write_data_file(data_file, images_of(folder, count, network_hw), network_hw)
    settings = {"folder": folder.name, "images": count, "network_hw": network_hw}
    Artifact.record(data_file, "export", settings=settings)
    return lambda: images_in_data_file(data_file, count, network_hw)


def gate_images(images: Callable[[], Iterator[Pixels]]) -> NDArray[np.uint8]:
    """The calibration images that a gate looks at: (B, H, W, 3) with B <= `MAX_GATE_IMAGES`."""
    return np.stack(list(islice(images(), MAX_GATE_IMAGES)))


def calibrated_scales(
    prepared: onnx.ModelProto,
    source: Artifact,
    calibration: Calibration,
    images: Callable[[], Iterator[Pixels]],
    network_hw: tuple[int, int],
    say: Say,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Scales of every tensor that may be quantised, and how they were found; from the cache
    file when there is one.
    """
    names = place(prepared).tensors
    cache = calibration.cache_file
    if cache is not None and cache.is_file():
        say(f"calibration: scales of {cache}")
        scales = read_cache(cache, names, source, network_hw)
        given = Artifact.open(cache).settings if record_path(cache).is_file() else {}
        return scales, {"cache": cache.name, **given}
    method, count = calibration.method, calibration.images
    scales = scales_of(names, activations(prepared, names), images(), method)
    if cache is not None:
        write_cache(cache, scales, method, source, images=count, network_hw=network_hw)
    return scales, {"method": str(method), "images": count}


def activations(model: onnx.ModelProto, names: Sequence[str]) -> Activations:
    """Runs a graph on one image and returns the tensors of these names."""
    import onnxruntime

    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    for name in set(names) - {output.name for output in model.graph.output}:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        observed.graph.output.append(value)
    session = onnxruntime.InferenceSession(
        observed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (pixels,) = model.graph.input
    return lambda image: session.run(list(names), {pixels.name: image[None]})


def quantise(
    prepared: onnx.ModelProto,
    scales: dict[str, float],
    judges: list[Judge],
    on_miss: OnMiss,
    images: Sequence[Pixels],
    say: Say,
    float_layers: Sequence[str] = (),
) -> Quantised:
    """An INT8 graph that passes every judge.

    Args:
        prepared: float graph from `quantize.prepare`.
        scales: of every tensor that `place` names.
        judges: asked in order.
        on_miss: report, or leave layers in float until the judges agree.
        images: for the sensitivity of the layers, should a gate be missed.
        say: hears about progress.
        float_layers: left in float from the start.

    Raises:
        AccuracyGateError: a gate was missed; names the most sensitive layers.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"

        def attempt(moved: Sequence[str]) -> Quantised:
            placement = place(prepared, (*float_layers, *moved))
            model = quantize(prepared, placement, scales)
            onnx.save(model, path)
            verdicts = tuple(first_miss(judges, path))
            say(f"{len(placement.layers)} INT8 layers: {'; '.join(map(str, verdicts))}")
            kept = (*float_layers, *moved)
            return Quantised(model, len(placement.layers), kept, verdicts)

        made = attempt(())
        if _passed(made):
            return made
        errors = layer_sensitivity(prepared, scales, images, float_layers)
        report = ", ".join(f"{n} {e:.3f}" for n, e in list(errors.items())[:_REPORTED_LAYERS])
        say(f"relative error of the fields with one INT8 layer: {report}")
        if on_miss is OnMiss.MIX:
            mixed = _fewest_moved(attempt, list(errors))
            if mixed is not None:
                return mixed
    raise AccuracyGateError(
        f"expected {made.verdicts[-1].measure} within {made.verdicts[-1].limit:g}, got"
        f" {made.verdicts[-1].value:.4f}; most sensitive layers: {report}; try --auto-mixed or"
        " another --cal_method"
    )


def _passed(made: Quantised) -> bool:
    return all(verdict.passed for verdict in made.verdicts)


def _fewest_moved(
    attempt: Callable[[Sequence[str]], Quantised], worst_first: Sequence[str]
) -> Quantised | None:
    """The passing graph with the fewest of the worst layers in float, by doubling and halving."""
    best = None
    low, high = 0, 1  # `low` layers in float do not pass
    while best is None:
        made = attempt(worst_first[:high])
        if _passed(made):
            best = made
        elif high >= len(worst_first):
            return None
        else:
            low, high = high, min(2 * high, len(worst_first))
    while high - low > 1:
        middle = (low + high) // 2
        made = attempt(worst_first[:middle])
        if _passed(made):
            best, high = made, middle
        else:
            low = middle
    return best


def layer_sensitivity(
    prepared: onnx.ModelProto,
    scales: dict[str, float],
    images: Sequence[Pixels],
    float_layers: Sequence[str] = (),
) -> dict[str, float]:
    """What each layer alone in INT8 does to the heads: relative RMS error, worst layer first."""
    heads = head_tensors(prepared)
    images = images[:_SENSITIVITY_IMAGES]

    def fields(model: onnx.ModelProto) -> list[list[Any]]:
        run = activations(model, heads)
        return [list(run(image)) for image in images]

    expected = fields(prepared)
    layers = place(prepared, float_layers).layers
    errors = {}
    for layer in layers:
        alone: Placement = place(prepared, [name for name in layers if name != layer])
        errors[layer] = _relative_error(expected, fields(quantize(prepared, alone, scales)))
    return dict(sorted(errors.items(), key=lambda entry: -entry[1]))


def head_tensors(model: onnx.ModelProto) -> list[str]:
    """Outputs of the last weighted nodes: heatmaps and part affinity fields."""
    graph = OnnxGraph(model)
    leading = graph.leading_to_weights()
    return [
        node.output[0]
        for node in graph.nodes
        if graph.is_weighted(node) and node.name not in leading
    ]


def _relative_error(expected: list[list[Any]], got: list[list[Any]]) -> float:
    per_head = []
    for ours, theirs in zip(zip(*expected, strict=True), zip(*got, strict=True), strict=True):
        one, other = np.stack(ours), np.stack(theirs)
        per_head.append(float(np.sqrt(np.mean((one - other) ** 2) / max(np.mean(one**2), 1e-12))))
    return max(per_head)
