"""Owns the comparison of evaluation modes: what more views of an image bring, and cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pose_runtime.poses import Poses

from .dataset import ImageRecord, read_coco
from .evaluate import metrics_of
from .evaluation_modes import (
    MULTI_SCALES,
    EvaluationMode,
    field_decoder,
    field_network,
    find_people_in_mode,
)
from .experiments import METRICS
from .keras_models import load_network

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

    Times are medians over images, in Keras on this machine, image by image in every mode; the
    ratio to strict is what they are good for.

    Raises:
        DatasetError: the annotations or images are missing or of another skeleton.
    """
    network, spec, artifact = load_network(model)
    records = read_coco(annotations, images, spec.skeleton)[:limit]
    run, decode = field_network(network), field_decoder(spec)
    rows: list[dict[str, Any]] = []
    for name, mode in MODES.items():
        seconds: list[float] = []
        found = _timed(find_people_in_mode(run, decode, records, spec, mode), seconds)
        metrics = metrics_of(found, spec, annotations, [record.image_id for record in records])
        milliseconds = 1000 * statistics.median(seconds)
        baseline = rows[0]["milliseconds"] if rows else milliseconds
        rows.append(
            {
                "mode": name,
                "metrics": {metric: metrics.numbers[metric] for metric in METRICS},
                "milliseconds": round(milliseconds, 1),
                "latency_ratio": round(milliseconds / baseline, 2),
            }
        )
        say(f"{name}: AP {metrics.ap:.4f}, {rows[-1]['latency_ratio']:g} x the time of strict")
    return {
        "schema": "bodypose-modes/1",
        "model": {"name": model.name, "sha256": artifact.sha256},
        "split": annotations.name,
        "images": len(records),
        "modes": rows,
    }


def _timed(
    found: Iterator[tuple[ImageRecord, Poses]], seconds: list[float]
) -> Iterator[tuple[ImageRecord, Poses]]:
    while True:
        started = time.perf_counter()
        try:
            answer = next(found)
        except StopIteration:
            return
        seconds.append(time.perf_counter() - started)
        yield answer


def modes_table(record: Mapping[str, Any]) -> str:
    """Markdown of `compare_modes`."""
    lines = ["| mode | time | AP | AP50 | AP75 | APm | APl |", "|---|---|---|---|---|---|---|"]
    for row in record["modes"]:
        cells = [row["mode"], f"{row['latency_ratio']:.2f}"]
        cells += [f"{row['metrics'][name]:.3f}" for name in METRICS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
