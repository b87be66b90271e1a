"""The report of a pruning: a table, the numbers for the record, and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bodypose_tools.files.figures import png_figure

_GONE, _KEPT, _INK, _GRID = "#d9dee5", "#2f6fb0", "#22303c", "#eef1f4"


@dataclass(frozen=True, slots=True)
class LayerWidth:
    """Filters of one convolution before and after."""

    name: str
    before: int
    after: int

    @property
    def share(self) -> float:
        """Share of the filters that remain, 0..1."""
        return self.after / self.before


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Filters, parameters and MACs of a network. Pairs are before, after pruning."""

    threshold: float
    layers: tuple[LayerWidth, ...]  # of every convolution, in the order of the graph
    params: tuple[int, int]
    macs: tuple[int, int]  # for one image of the network's input size
    file_bytes: tuple[int, int | None]  # None: nothing was written

    def with_size_of(self, pruned: Path) -> PruneReport:
        """The same report with the size of the pruned file."""
        return replace(self, file_bytes=(self.file_bytes[0], pruned.stat().st_size))

    def lines(self) -> Iterator[str]:
        """The table and the sums, for people."""
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        yield f"{'layer':{width}}  before  after  share"
        for layer in self.layers:
            yield f"{layer.name:{width}}  {layer.before:6}  {layer.after:5}  {layer.share:5.0%}"
        yield ""
        yield self._sum("parameters", *self.params, 1e6, "M")
        yield self._sum("MACs", *self.macs, 1e9, "G")
        before, after = self.file_bytes
        if after is not None:
            yield self._sum("file", before, after, 1e6, "MB")
        yield f"threshold   {self.threshold:.4g}"

    def to_json(self) -> dict[str, Any]:
        """The part of a pruned network's record that holds these numbers."""
        names = ("before", "after")
        return {
            "parameters": dict(zip(names, self.params, strict=True)),
            "macs": dict(zip(names, self.macs, strict=True)),
            "layers": {layer.name: [layer.before, layer.after] for layer in self.layers},
        }

    def _sum(self, what: str, before: int, after: int, unit: float, name: str) -> str:
        return (
            f"{what:10}  {before / unit:.2f} {name} -> {after / unit:.2f} {name}"
            f"  ({after / before:.1%} remain)"
        )


def draw_widths(report: PruneReport, title: str, out: Path) -> None:
    """Write a PNG of the number of filters of every convolution, before and after."""
    rows = len(report.layers)
    with png_figure(out, (8.5, 1.6 + 0.17 * rows), dpi=130) as figure:
        axes = figure.add_subplot()
        places = range(rows)
        axes.barh(places, [w.before for w in report.layers], 0.8, color=_GONE, label="before")
        axes.barh(places, [w.after for w in report.layers], 0.8, color=_KEPT, label="after")
        widest = max(layer.before for layer in report.layers)
        for place, layer in enumerate(report.layers):
            text = (
                f"{layer.after}" if layer.after == layer.before else f"{layer.after}/{layer.before}"
            )
            axes.text(layer.before + widest * 0.008, place, text, va="center", size=6.5, color=_INK)
        axes.set_yticks(places, [layer.name for layer in report.layers], size=7)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_xlim(0, widest * 1.1)
        axes.set_xlabel("filters")
        axes.xaxis.grid(visible=True, color=_GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{title}\n{_summary(report)}", loc="left", size=10, color=_INK)
        axes.legend(loc="lower right", frameon=False, ncols=2)


def _summary(report: PruneReport) -> str:
    (params, params_left), (macs, macs_left) = report.params, report.macs
    return (
        f"parameters {params / 1e6:.2f} M to {params_left / 1e6:.2f} M"
        f" ({params_left / params:.0%} remain), MACs {macs / 1e9:.2f} G to {macs_left / 1e9:.2f} G"
        f" ({macs_left / macs:.0%} remain)"
    )
