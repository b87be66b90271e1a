"""The curves of a report."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_PERCENTILES = {"p50": "#1b6ca8", "p95": "#e08e0b", "p99": "#b3261e"}


def draw_curves(report: Mapping[str, Any]) -> bytes:
    """A PNG: throughput and latency over the load, the knee marked; a soak's minutes, too."""
    timeline = report.get("timeline")
    figure = Figure(figsize=(10, 7.5 if timeline else 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 if timeline else 1, 2, squeeze=False)
    _throughput(axes[0][0], report)
    _latency(axes[0][1], report)
    if timeline:
        _minutes(axes[1], timeline)
    png = io.BytesIO()
    figure.savefig(png, dpi=110, format="png", metadata={"Software": None})
    return png.getvalue()


def _throughput(axes: Any, report: Mapping[str, Any]) -> None:
    steps = report["steps"]
    places = range(len(steps))
    axes.plot(places, [step["throughput"] for step in steps], "o-", color="#1b6ca8")
    for place, step in enumerate(steps):
        if step["spread"]["throughput"]:
            axes.plot([place, place], step["spread"]["throughput"], color="#1b6ca8", alpha=0.4)
        if step["invalid"]:
            axes.plot(place, step["throughput"], "x", color="#b3261e", markersize=12)
    _dress(axes, report, "answers/s (x: invalid)")
    axes.set_ylim(bottom=0)


def _latency(axes: Any, report: Mapping[str, Any]) -> None:
    steps = report["steps"]
    measured = [not step["invalid"] and step["latency_ms"]["p50"] is not None for step in steps]
    for name, colour in _PERCENTILES.items():
        values = [
            step["latency_ms"][name] if is_measured else math.nan
            for step, is_measured in zip(steps, measured, strict=True)
        ]
        axes.plot(range(len(steps)), values, "o-", color=colour, label=name)
    if report["slo"].get("p99"):
        axes.axhline(report["slo"]["p99"], color="black", linestyle=":", label="SLO p99")
    _dress(axes, report, "latency of valid steps, ms")
    if not any(measured):  # a logarithmic axis cannot be empty
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center")
        return
    axes.set_yscale("log")
    axes.legend()


def _dress(axes: Any, report: Mapping[str, Any], title: str) -> None:
    steps, knee = report["steps"], report.get("knee")
    axes.set_title(title)
    axes.set_xticks(range(len(steps)), [step["name"] for step in steps], rotation=20, ha="right")
    axes.grid(alpha=0.3)
    if knee:
        place = [step["name"] for step in steps].index(knee["step"])
        axes.axvline(place, color="#2e7d32", linestyle="--", label="knee")
        axes.annotate("knee", (place, 0.02), xycoords=("data", "axes fraction"), color="#2e7d32")


def _minutes(axes: Any, timeline: list[dict[str, float]]) -> None:
    minutes = range(len(timeline))
    axes[0].plot(minutes, [row["server_mib"] for row in timeline], color="#1b6ca8")
    axes[0].set_title("server memory, MiB, by the minute")
    axes[0].set_ylim(0, 1.2 * max(1, *(row["server_mib"] for row in timeline)))
    axes[1].plot(minutes, [row["p99_ms"] for row in timeline], color="#b3261e")
    axes[1].set_title("p99, ms, by the minute")
    axes[1].set_ylim(bottom=0)
    for each in axes:
        each.grid(alpha=0.3)
