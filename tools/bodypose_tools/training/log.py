"""Owns what a run writes about itself: log.csv, TensorBoard's events, curves.png."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.files.figures import png_figure

from .event_file import EventFile

LOG_FILE = "log.csv"
EVENTS_FOLDER = "tensorboard"
CURVES_FILE = "curves.png"

# One row an epoch; the COCO numbers are empty where nothing was validated.
VALIDATED = ("AP", "AP50", "AP75", "APm", "APl")
COLUMNS = ("epoch", "loss", "learning_rate", "seconds", "images_per_second", *VALIDATED)
_TAGS = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "images_per_second": "train/images_per_second",
    **{name: f"val/{name}" for name in VALIDATED},
}

Row = Mapping[str, Any]


class TrainingLog:
    """Three forms of the same rows, each complete after every epoch.

    A resumed run writes the rows of its checkpoint anew, so that no epoch is there twice.
    """

    def __init__(self, folder: Path, rows: Sequence[Row]) -> None:
        self._folder = folder
        for old in (folder / EVENTS_FOLDER).glob("events.out.tfevents.*"):
            old.unlink()
        self._events = EventFile(folder / EVENTS_FOLDER)
        for row in rows:
            self._add_events(row)

    def write(self, rows: Sequence[Row]) -> None:
        """Add the last of all rows."""
        write_rows(self._folder / LOG_FILE, rows)
        self._add_events(rows[-1])

    def close(self) -> None:
        self._events.close()

    def _add_events(self, row: Row) -> None:
        values = {tag: float(row[name]) for name, tag in _TAGS.items() if row.get(name, "") != ""}
        self._events.scalars(int(row["epoch"]), values)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """All rows as CSV."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
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
        for name in VALIDATED:
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
