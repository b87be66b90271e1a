"""Matplotlib figures as PNG files."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .atomic_files import atomic_path

_GRID = {"alpha": 0.3}


def can_draw() -> bool:
    """Whether matplotlib is installed; commands that only illustrate their work go on without."""
    return importlib.util.find_spec("matplotlib") is not None


@contextlib.contextmanager
def png_figure(path: Path, size_inches: tuple[float, float], dpi: int = 110) -> Iterator[Any]:
    """An empty `matplotlib.figure.Figure` that is saved to `path` when the block ends.

    The figure stands outside pyplot's global state, and the file names no version of matplotlib:
    the same numbers give the same bytes.

    Args:
        path: the PNG; it is replaced atomically.
        size_inches: width, height.
        dpi: pixels per inch.

    Raises:
        DiskError: `path` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png", metadata={"Software": None})


@contextlib.contextmanager
def png_axes(path: Path, size_inches: tuple[float, float]) -> Iterator[Any]:
    """`png_figure` with one pair of axes, `matplotlib.axes.Axes`, and a light grid."""
    with png_figure(path, size_inches) as figure:
        axes = figure.subplots()
        axes.grid(**_GRID)
        yield axes
