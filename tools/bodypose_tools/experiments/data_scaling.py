"""Data scaling: AP fitted against the number of training images, and predicted for more.

Two curves of two parameters are fitted to the same points. They agree where there are points and
part beyond them, so that what lies between them is said as a range, and as a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.training.log import METRICS

from .runs import ExperimentError, Run, changes

# Images of COCO train2017 with annotated keypoints.
COCO_KEYPOINT_IMAGES = 56_599
_LEAST_POINTS = 3
# What may differ between runs of one scaling experiment.
_SCALED = (
    "dataloader.dataset_config.train_fraction",
    "num_epoch",
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """AP as a function of the number of images."""

    name: str
    formula: str
    fit: Callable[[Floats, Floats], tuple[float, float]]
    predict: Callable[[tuple[float, float], float], float]


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Intercept and slope of the least squares line."""
    slope, intercept = np.polyfit(x, y, 1)
    return float(intercept), float(slope)


CURVES = (
    Curve(
        "logarithm",
        "AP = a + b * log2(images)",
        lambda images, ap: _line(np.log2(images), ap),
        lambda ab, images: ab[0] + ab[1] * float(np.log2(images)),
    ),
    Curve(
        "power law of what is missing",
        "log(1 - AP) = a + b * log2(images)",
        lambda images, ap: _line(np.log2(images), np.log(1 - ap)),
        lambda ab, images: 1 - float(np.exp(ab[0] + ab[1] * np.log2(images))),
    ),
)


def scaling_record(
    runs: Sequence[Run], predicted_images: int = COCO_KEYPOINT_IMAGES
) -> dict[str, Any]:
    """Runs of one recipe on more and more images, both fits, and what they predict, for JSON.

    Raises:
        ExperimentError: fewer than three runs, twice the same number of images, or recipes that
            differ in more than the images and the epochs.
    """
    ordered = sorted(runs, key=lambda run: run.train_images)
    _check(ordered)
    images = np.array([run.train_images for run in ordered], float)
    ap = np.array([run.metrics["AP"] for run in ordered])
    fits = [_fit_record(curve, images, ap, predicted_images) for curve in CURVES]
    return {
        "schema": "bodypose-data-scaling/1",
        "points": [
            {
                "run": run.name,
                "sha256": run.sha256,
                "images": run.train_images,
                "epochs": run.num_epoch,
                "best_epoch": run.epoch,
                "metrics": {name: run.metrics[name] for name in METRICS},
            }
            for run in ordered
        ],
        "fits": fits,
        "prediction": {
            "images": predicted_images,
            "low": min(fit["predicted_ap"] for fit in fits),
            "high": max(fit["predicted_ap"] for fit in fits),
        },
    }


def _check(ordered: Sequence[Run]) -> None:
    if len(ordered) < _LEAST_POINTS:
        raise ExperimentError(f"expected at least {_LEAST_POINTS} runs, got {len(ordered)}")
    if len({run.train_images for run in ordered}) < len(ordered):
        counts = [run.train_images for run in ordered]
        raise ExperimentError(f"expected runs on different numbers of images, got {counts}")
    for run in ordered:
        if not 0 <= run.metrics["AP"] < 1:
            raise ExperimentError(
                f"{run.name}: expected an AP from 0 to below 1 to fit, got {run.metrics['AP']:g}"
            )
        others = [key for key in changes(run, ordered[-1]) if key not in _SCALED]
        if others:
            raise ExperimentError(
                f"{run.name}: expected the recipe of {ordered[-1].name}, got another"
                f" {', '.join(others)}"
            )


def _fit_record(curve: Curve, images: Floats, ap: Floats, wanted: int) -> dict[str, Any]:
    parameters = curve.fit(images, ap)
    fitted = [curve.predict(parameters, count) for count in images]
    without_largest = curve.fit(images[:-1], ap[:-1])
    return {
        "curve": curve.name,
        "formula": curve.formula,
        "a": round(parameters[0], 5),
        "b": round(parameters[1], 5),
        "largest_residual": round(float(np.abs(ap - fitted).max()), 4),
        # How far off the largest run the smaller ones would have been.
        "error_when_predicting_largest": round(
            curve.predict(without_largest, float(images[-1])) - float(ap[-1]), 4
        ),
        "predicted_ap": round(curve.predict(parameters, wanted), 4),
    }


def scaling_table(record: Mapping[str, Any]) -> str:
    """Markdown of `scaling_record`; predictions are named as such."""
    lines = ["| images | epochs | AP | AP50 | AP75 | APm | APl |", "|---|---|---|---|---|---|---|"]
    for point in record["points"]:
        scores = [f"{point['metrics'][name]:.3f}" for name in METRICS]
        cells = [f"{point['images']:,}", str(point["epochs"]), *scores]
        lines.append(f"| {' | '.join(cells)} |")
    count = record["prediction"]["images"]
    lines += [
        f"| prediction for {count:,} by the {fit['curve']} | | {fit['predicted_ap']:.3f} | | | | |"
        for fit in record["fits"]
    ]
    return "\n".join(lines) + "\n"
