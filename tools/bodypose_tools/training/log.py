"""The files of a training run: their names, log.csv and curves.png."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.files.figures import png_figure

BEST_FILE = "best.keras"
LOG_FILE = "log.csv"
CURVES_FILE = "curves.png"

# One row an epoch; the COCO numbers are empty where nothing was validated.
METRICS = ("AP", "AP50", "AP75", "APm", "APl")
COLUMNS = ("epoch", "loss", "learning_rate", "seconds", "images_per_second", *METRICS)

Row = Mapping[str, Any]


def write_log(folder: Path, rows: Sequence[Row]) -> None:
    """Write log.csv, all epochs anew: a resumed run lists none twice."""
    with atomic_path(folder / LOG_FILE) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def draw_curves(folder: Path, rows: Sequence[Row]) -> None:
    """Loss and learning rate, and the COCO numbers, over epochs."""
    with png_figure(folder / CURVES_FILE, (10, 4)) as figure:
        losses, scores = figure.subplots(1, 2)
        epochs = [row["epoch"] for row in rows]
        losses.plot(epochs, [row["loss"] for row in rows], color="#1b6ca8")
        losses.set_yscale("log")
        losses.set_title("loss; learning rate dotted")
        rates = losses.twinx()
        rates.plot(epochs, [row["learning_rate"] for row in rows], ":", color="#777777")
        rates.set_yscale("log")
        validated = [row for row in rows if row.get("AP", "") != ""]
        for name in METRICS:
            scores.plot(
                [row["epoch"] for row in validated],
                [row[name] for row in validated],
                "o-",
                markersize=3,
                label=name,
            )
        scores.set_title("validation split")
        scores.legend()
        for axes in (losses, scores):
            axes.set_xlabel("epoch")
            axes.grid(alpha=0.3)
