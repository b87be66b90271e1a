"""Pictures of experiments: AP against cost, AP against training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_tools.files.figures import png_axes

_COLOURS = ("#1b6ca8", "#e08e0b", "#2e7d32", "#b3261e")


def draw_points(
    points: Sequence[tuple[str, float, float]], x_title: str, title: str, path: Path
) -> None:
    """Named points: cost to the right, AP upwards.

    Args:
        points: name, cost, AP.
        x_title: what the cost is.
        title: of the picture.
        path: the PNG.
    """
    with png_axes(path, (7, 4.5)) as axes:
        costs = [cost for _, cost, _ in points]
        middle = (min(costs) + max(costs)) / 2
        for number, (name, cost, ap) in enumerate(points):
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(cost, ap, "o", color=colour)
            side, shift = ("right", -6) if cost > middle else ("left", 6)
            axes.annotate(
                name, (cost, ap), xytext=(shift, 4), textcoords="offset points", fontsize=9, ha=side
            )
        axes.set_xlabel(x_title)
        axes.set_ylabel("AP, val split")
        axes.set_title(title)
        axes.margins(x=0.2, y=0.15)


def draw_scaling(record: Mapping[str, Any], path: Path) -> None:
    """Points, fitted curves, and the prediction as an open mark at its number of images."""
    from .data_scaling import CURVES

    with png_axes(path, (7, 4.5)) as axes:
        counts = [point["images"] for point in record["points"]]
        axes.plot(
            counts, [point["metrics"]["AP"] for point in record["points"]], "ko", label="trained"
        )
        wanted = record["prediction"]["images"]
        grid = np.geomspace(min(counts), wanted, 100)
        for curve, fit, colour in zip(CURVES, record["fits"], _COLOURS, strict=False):
            heights = [curve.predict((fit["a"], fit["b"]), count) for count in grid]
            axes.plot(grid, heights, "--", color=colour, label=fit["formula"])
            axes.plot(wanted, fit["predicted_ap"], "o", color=colour, markerfacecolor="white")
        axes.set_xscale("log")
        axes.set_xlabel("training images")
        axes.set_ylabel("AP, val split")
        axes.set_title(f"AP by training images; open marks: predictions for {wanted:,}")
        axes.legend()
