"""The search for an INT8 graph that passes its gates.

A float graph is equalised, calibrated, quantised and judged. When it misses a gate, each layer is
measured alone in INT8; with `OnMiss.MIX` layers stay in float until the graph passes, first those
that lose most for the multiplications they save.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from math import ceil, log2
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bodypose_client.progress import with_progress
from bodypose_tools.files.artifacts import Artifact, record_path
from bodypose_tools.graphs.index import OnnxGraph, macs_of
from bodypose_tools.runtimes.cpu import onnx_session

from .calibration import Activations, CalibrationError, Pixels, Ranges, channel_means
from .calibration_files import (
    images_in_data_file,
    images_of,
    read_cache,
    write_cache,
    write_data_file,
)
from .equalisation import channel_ranges, equalise, scalable_tensors
from .gate import AccuracyGateError, Judge, Verdict, first_miss
from .placement import Placement, place
from .qdq import insert_qdq
from .settings import Calibration, OnMiss

MAX_GATE_IMAGES = 64
EARLY_IMAGES = 48  # of calibration, after which a graph far below its gate is refused
EARLY_MARGIN = 0.02  # of joints that stay; see `early_judge`
SENSITIVITY_IMAGES = 12  # some 1,000 peaks; each layer costs one pass over these images
_REPORTED_LAYERS = 10
_MAX_RETRIES = 8  # layers that are tried in INT8 again; each costs all gates

Say = Callable[[str], None]
Loss = Callable[[Path], float]  # of accuracy by the graph in a file: 0 is none
Scales = dict[str, float]  # by tensor


@dataclass(frozen=True, slots=True)
class Quantised:
    """An INT8 graph, and the verdicts of its gates."""

    model: onnx.ModelProto
    int8_layers: int
    float_layers: tuple[str, ...]  # names of layers that stayed in float though INT8 has them
    macs_share: float  # share of the network's multiplications that are INT8
    verdicts: tuple[Verdict, ...]


def calibration_images(
    calibration: Calibration, network_hw: tuple[int, int], say: Say
) -> Callable[[], Iterator[Pixels]]:
    """A function that reads the calibration images, (H, W, 3) uint8, each time it is called.

    Writes the data file when one is named and missing.

    Raises:
        CalibrationError: there is neither folder nor data file, or too few images.
        StaleArtifactError: the data file changed after it was written.
    """
    folder, data_file, count = calibration.image_dir, calibration.data_file, calibration.images
    if data_file is not None and data_file.is_file():
        Artifact.open(data_file)
        say(f"calibration: {count} images of {data_file}")
        return lambda: images_in_data_file(data_file, count, network_hw)
    if folder is None:
        raise CalibrationError(
            "expected --cal-image-dir with training images, or an existing --cal-data-file, got"
            " neither (a cache is not enough: the gate compares joints on the images); run `tools"
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
    """The calibration images that a gate runs: (B, H, W, 3) with B <= `MAX_GATE_IMAGES`."""
    return np.stack(list(islice(images(), MAX_GATE_IMAGES)))


def equalised(
    prepared: onnx.ModelProto,
    calibration: Calibration,
    images: NDArray[np.uint8],
    say: Say,
) -> onnx.ModelProto:
    """The graph equalised by the ranges of its channels on images (B, H, W, 3).

    A cache without a record comes from another tool and holds the scales of the graph as it is;
    with such a cache the graph is not equalised.
    """
    cache = calibration.cache_file
    if cache is not None and cache.is_file() and not record_path(cache).is_file():
        say(f"equalisation: none, because {cache} was not written by `tools export`")
        return prepared
    names = scalable_tensors(prepared, place(prepared).tensors)
    seen = with_progress(images, len(images), "ranges of channels")
    return equalise(prepared, channel_ranges(names, activations(prepared, names), seen))


def calibrated_scales(
    prepared: onnx.ModelProto,
    source: Artifact,
    calibration: Calibration,
    images: Callable[[], Iterator[Pixels]],
    network_hw: tuple[int, int],
    say: Say,
    early: Callable[[Scales], None] | None,
) -> tuple[Scales, dict[str, Any]]:
    """Scales of every tensor that may be quantised, and how they were found.

    They are read from the cache file if it exists; otherwise they are computed, and written to it.

    Args:
        prepared: equalised float graph.
        source: the file it comes from.
        calibration: how it is calibrated.
        images: reads the calibration images.
        network_hw: their size.
        say: gets a line about each step.
        early: gets the scales of the first `EARLY_IMAGES` of more images, and may refuse them;
            None: nobody asks for them.
    """
    names = place(prepared).tensors
    graph = sha256(prepared.SerializeToString(deterministic=True)).hexdigest()
    cache = calibration.cache_file
    if cache is not None and cache.is_file():
        say(f"calibration: scales of {cache}")
        scales = read_cache(cache, names, source, network_hw, graph)
        given = Artifact.open(cache).settings if record_path(cache).is_file() else {}
        return scales, {"cache": cache.name, **given}
    method, count = calibration.method, calibration.images
    ranges = Ranges(names, activations(prepared, names))
    stream, first = images(), min(EARLY_IMAGES, count)
    ranges.add(with_progress(islice(stream, first), first, "calibration, first images"))
    if count > first:
        if early is not None:
            early(ranges.scales(method))
        ranges.add(with_progress(stream, count - first, "calibration"))
    scales = ranges.scales(method)
    if cache is not None:
        write_cache(cache, scales, method, source, images=count, network_hw=network_hw, graph=graph)
    return scales, {"method": str(method), "images": count}


def early_judge(quick: Judge, count: int) -> Judge:
    """The gate `quick` as it judges a graph with the scales of the first `EARLY_IMAGES`.

    It passes what is at most `EARLY_MARGIN` below the limit: the other images of `count` gain
    less than that (docs/notes/int8.md).
    """

    def judge(candidate: Path) -> Verdict:
        verdict = quick(candidate)
        return replace(
            verdict,
            measure=f"{verdict.measure}, after {EARLY_IMAGES} of {count} calibration images,",
            passed=verdict.value >= verdict.limit - EARLY_MARGIN,
        )

    return judge


def input_means(
    prepared: onnx.ModelProto, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """Means of channels that INT8 convolutions may read: by tensor, on images (B, H, W, 3)."""
    layers = place(prepared).layers
    read = {n.input[0] for n in prepared.graph.node if n.name in layers and n.op_type == "Conv"}
    names = sorted(read - {pixels.name for pixels in prepared.graph.input})
    seen = with_progress(images, len(images), "means of channels")
    return channel_means(names, activations(prepared, names), seen)


def activations(model: onnx.ModelProto, names: Sequence[str]) -> Activations:
    """A function that runs a graph on one image and returns the tensors `names`."""
    observed = deepcopy(model)
    for name in set(names) - {output.name for output in model.graph.output}:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        observed.graph.output.append(value)
    if not names:  # ONNX Runtime would return all outputs
        return lambda image: []
    session = onnx_session(observed.SerializeToString())
    (pixels,) = model.graph.input
    return lambda image: session.run(list(names), {pixels.name: image[None]})


def quantise(
    prepared: onnx.ModelProto,
    scales: Scales,
    means: Mapping[str, NDArray[np.float32]],
    judges: list[Judge],
    on_miss: OnMiss,
    open_loss: Callable[[], Loss],
    say: Say,
    float_layers: Sequence[str] = (),
    *,
    unsigned: bool = False,
) -> Quantised:
    """An INT8 graph that passes every judge.

    Args:
        prepared: float graph from `placement.prepare`.
        scales: of every tensor that `place` names.
        means: of each channel by tensor, from `input_means`.
        judges: the gates, in order.
        on_miss: refuse, or leave layers in float until every gate passes.
        open_loss: makes what measures each layer alone, when layers are to be left in float.
        say: gets a line about each attempt.
        float_layers: names of layers that stay in float from the start.
        unsigned: as in `placement.place`.

    Raises:
        AccuracyGateError: a gate was missed, and still is when layers were left in float.
    """
    macs = macs_of(prepared)
    units = layers_by_weights(prepared, place(prepared, float_layers).layers)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"

        def attempt(first: Sequence[str]) -> Quantised:
            moved = [name for layer in first for name in units[layer]]
            placement = place(prepared, (*float_layers, *moved), unsigned=unsigned)
            model = insert_qdq(prepared, placement, scales, means)
            onnx.save(model, path)
            verdicts = tuple(first_miss(judges, path))
            share = sum(macs[name] for name in placement.layers) / max(sum(macs.values()), 1)
            say(
                f"{len(placement.layers)} INT8 layers, {share:.0%} of the MACs:"
                f" {'; '.join(map(str, verdicts))}"
            )
            kept = (*float_layers, *moved)
            return Quantised(model, len(placement.layers), kept, share, verdicts)

        say("INT8: trying every layer that INT8 has")
        started = time.perf_counter()
        made = attempt(())
        if _passed(made):
            return made
        minutes = _search_minutes(len(units), time.perf_counter() - started)
        missed = (
            f"expected {made.verdicts[-1].measure} within {made.verdicts[-1].limit:g}, got"
            f" {made.verdicts[-1].value:.4f}; nothing was written"
        )
        if on_miss is OnMiss.REPORT:
            raise AccuracyGateError(
                f"{missed}: --auto-mixed searches the layers that must stay in float, about"
                f" {minutes} min here after calibration, and --layers-from takes them from the"
                " record of a graph like this one"
            )
        say(
            f"the search runs {len(units)} layers alone in INT8 and then up to"
            f" {_graphs_of_search(len(units))} graphs: about {minutes} min"
        )
        loss = open_loss()
        losses = layer_sensitivity(prepared, scales, means, loss, float_layers, unsigned=unsigned)
        report = ", ".join(f"{n} {e:.3f}" for n, e in list(losses.items())[:_REPORTED_LAYERS])
        say(f"loss with one INT8 layer: {report}")
        # The geometric mean of the loss and of the loss per multiplication: the second alone soon
        # picks tiny layers whose loss is noise.
        work = {name: sum(macs[each] for each in units[name]) for name in losses}
        order = sorted(losses, key=lambda name: (-losses[name] / work[name] ** 0.5, work[name]))
        mixed = _fewest_moved(attempt, order)
        if mixed is not None:
            return _fewer_moved(attempt, *mixed, work)
    raise AccuracyGateError(
        f"{missed}, with whichever layers in float; most sensitive layers: {report}; try another"
        " --cal-method"
    )


def _graphs_of_search(layers: int) -> int:
    return 2 * ceil(log2(layers + 1)) + min(layers, _MAX_RETRIES)


def _search_minutes(layers: int, seconds: float) -> int:
    """How long the search takes at most when one graph and its gates take so many seconds."""
    alone = layers * seconds * SENSITIVITY_IMAGES / MAX_GATE_IMAGES
    return ceil((alone + _graphs_of_search(layers) * seconds) / 60)


def layers_by_weights(
    prepared: onnx.ModelProto, layers: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """By the first of them, layers that have the same weights: a layer that runs several times.

    They are in INT8 together or not at all, so that the file stores their weights once.
    """
    graph = OnnxGraph(prepared)
    by_weights: dict[tuple[Any, ...], list[str]] = {}
    wanted = set(layers)
    for node in graph.nodes:
        if node.name in wanted:
            weights = graph.constant(node.input[1])
            by_weights.setdefault((weights.shape, weights.tobytes()), []).append(node.name)
    return {names[0]: tuple(names) for names in by_weights.values()}


def _passed(made: Quantised) -> bool:
    return all(verdict.passed for verdict in made.verdicts)


def _fewest_moved(
    attempt: Callable[[Sequence[str]], Quantised], order: Sequence[str]
) -> tuple[Quantised, list[str]] | None:
    """The passing graph with the fewest first layers of `order` in float, and those layers."""
    best = None
    low, high = 0, 1  # `low` layers in float do not pass
    while best is None:
        made = attempt(order[:high])
        if _passed(made):
            best = made
        elif high >= len(order):
            return None
        else:
            low, high = high, min(2 * high, len(order))
    while high - low > 1:
        centre = (low + high) // 2
        made = attempt(order[:centre])
        if _passed(made):
            best, high = made, centre
        else:
            low = centre
    return best, list(order[:high])


def _fewer_moved(
    attempt: Callable[[Sequence[str]], Quantised],
    best: Quantised,
    moved: Sequence[str],
    work: Mapping[str, int],
) -> Quantised:
    """The graph with each moved layer back in INT8 that passes so, the most costly layers first."""
    retried = sorted(moved, key=lambda name: -work[name])[:_MAX_RETRIES]
    for name in with_progress(retried, len(retried), "layers tried in INT8 again"):
        fewer = [other for other in moved if other != name]
        made = attempt(fewer)
        if _passed(made):
            best, moved = made, fewer
    return best


def layer_sensitivity(
    prepared: onnx.ModelProto,
    scales: Scales,
    means: Mapping[str, NDArray[np.float32]],
    loss: Loss,
    float_layers: Sequence[str] = (),
    *,
    unsigned: bool = False,
) -> dict[str, float]:
    """The loss with each layer alone in INT8, by its name, the largest first.

    Layers with the same weights count as one, which has the name of the first.
    """
    layers = place(prepared, float_layers).layers
    units = layers_by_weights(prepared, layers)
    losses = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "alone.onnx"
        for layer, same in with_progress(units.items(), len(units), "layers alone in INT8"):
            others = [name for name in layers if name not in same]
            alone: Placement = place(prepared, (*float_layers, *others), unsigned=unsigned)
            onnx.save(insert_qdq(prepared, alone, scales, means), path)
            losses[layer] = loss(path)
    return dict(sorted(losses.items(), key=lambda entry: -entry[1]))
