"""Comparison of evaluation modes and of input sizes: AP and time of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bodypose_client.progress import with_progress
from bodypose_tools.data.coco import read_coco
from bodypose_tools.evaluation.modes import (
    MULTI_SCALES,
    EvaluationMode,
    field_decoder,
    field_network,
    find_people_in_mode,
)
from bodypose_tools.evaluation.offline import metrics_of
from bodypose_tools.networks.keras_files import load_network
from bodypose_tools.networks.network import check_input_size
from bodypose_tools.training.log import METRICS

T = TypeVar("T")

MODES = {
    "strict": EvaluationMode(),
    "strict, flip": EvaluationMode(flip=True),
    "keep-aspect": EvaluationMode(keep_aspect=True),
    "multi-scale": EvaluationMode(MULTI_SCALES),
    "multi-scale, flip": EvaluationMode(MULTI_SCALES, flip=True),
    "keep-aspect, multi-scale, flip": EvaluationMode(MULTI_SCALES, keep_aspect=True, flip=True),
}


def compare_modes(
    model: Path, annotations: Path, images: Path, limit: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """COCO's numbers and the time of an image for every mode, as a record for JSON.

    Modes take turns on every image, in Keras on this machine. Times, and their ratios to strict,
    are medians over images; only the ratios carry over to other machines.

    Raises:
        AnnotationError, FileError: the annotations are missing or of another skeleton.
        DatasetError: the images are missing.
    """
    views = [(name, mode, None) for name, mode in MODES.items()]
    return _compared(model, annotations, images, limit, views, say)


def compare_sizes(
    model: Path,
    sizes: Sequence[tuple[int, int]],
    annotations: Path,
    images: Path,
    limit: int | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """As `compare_modes`, for input sizes (H, W): the network's own, then `sizes`, all strict."""
    network, spec, _ = load_network(model)
    for size in sizes:
        check_input_size(network, size)
    own = spec.network_hw
    strict = EvaluationMode()
    views = [(f"{hw[0]} x {hw[1]}", strict, hw) for hw in dict.fromkeys([own, *sizes])]
    return _compared(model, annotations, images, limit, views, say)


def _compared(
    model: Path,
    annotations: Path,
    images: Path,
    limit: int | None,
    views: Sequence[tuple[str, EvaluationMode, tuple[int, int] | None]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """A row for each view: its name, mode, and input size where that is not the network's."""
    network, own_spec, artifact = load_network(model)
    records = read_coco(annotations, images, own_spec.skeleton, limit)
    run, decode = field_network(network), field_decoder(own_spec)
    specs = [replace(own_spec, network_hw=hw or own_spec.network_hw) for _, _, hw in views]
    finders = [
        find_people_in_mode(run, decode, records, spec, mode)
        for (_, mode, _), spec in zip(views, specs, strict=True)
    ]
    found, seconds = in_turn(finders, len(records))
    ratios = np.median(seconds / seconds[:, :1], axis=0)
    rows: list[dict[str, Any]] = []
    image_ids = [record.image_id for record in records]
    for view, (name, _, _) in enumerate(views):
        metrics = metrics_of(iter(found[view]), specs[view], annotations, image_ids)
        rows.append(
            {
                "mode": name,
                "metrics": {metric: metrics.numbers[metric] for metric in METRICS},
                "milliseconds": round(1000 * float(np.median(seconds[:, view])), 1),
                "latency_ratio": round(float(ratios[view]), 2),
            }
        )
        ratio = rows[-1]["latency_ratio"]
        say(f"{name}: AP {metrics.ap:.4f}, {ratio:g} x the time of {rows[0]['mode']}")
    return {
        "schema": "bodypose-modes/1",
        "model": {"name": model.name, "sha256": artifact.sha256},
        "split": annotations.name,
        "images": len(records),
        "modes": rows,
    }


def in_turn(
    finders: Sequence[Iterator[T]], count: int
) -> tuple[list[list[T]], NDArray[np.float64]]:
    """`count` values of each of V iterators, taken in turn, and their (count, V) seconds."""
    found: list[list[T]] = [[] for _ in finders]
    seconds = np.empty((count, len(finders)))
    for row in with_progress(range(count), count, "images, in every view"):
        for column, finder in enumerate(finders):
            started = time.perf_counter()
            found[column].append(next(finder))
            seconds[row, column] = time.perf_counter() - started
    return found, seconds


def modes_table(record: Mapping[str, Any]) -> str:
    """Markdown of `compare_modes` and `compare_sizes`."""
    lines = ["| view | time | AP | AP50 | AP75 | APm | APl |", "|---|---|---|---|---|---|---|"]
    for row in record["modes"]:
        cells = [row["mode"], f"{row['latency_ratio']:.2f}"]
        cells += [f"{row['metrics'][name]:.3f}" for name in METRICS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
