"""The picture of a trade-off: AP against the cost of a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bodypose_tools.files.figures import png_figure

from .pareto import Point, TradeOff

_STEP, _BEST, _LIMIT, _INK, _GRID = "#2f6fb0", "#c8501e", "#9aa5b1", "#22303c", "#eef1f4"


def draw_trade_off(trade_off: TradeOff, out: Path) -> None:
    """AP against MACs, parameters and measured time, a panel each; PNG.

    Times are shares of the unpruned network's in the same run; only timed runtimes have a panel.
    """
    costs: dict[str, Callable[[Point], float | None]] = {
        "GMAC": lambda point: point.macs / 1e9,
        "parameters, M": lambda point: point.parameters / 1e6,
    }
    for runtime in trade_off.runtimes:
        costs[f"time in {runtime}, share of unpruned"] = _time_share(trade_off, runtime)
    with png_figure(out, (1 + 3.6 * len(costs), 3.8), dpi=130) as figure:
        panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
        for axes, (name, cost) in zip(panels, costs.items(), strict=True):
            _draw_panel(axes, trade_off, cost)
            axes.set_xlabel(name)
        panels[0].set_ylabel(f"AP on {trade_off.split}", color=_INK)
        figure.suptitle(f"{trade_off.network}: prune and retrain", x=0.01, ha="left", color=_INK)


def _time_share(trade_off: TradeOff, runtime: str) -> Callable[[Point], float | None]:
    def share(point: Point) -> float | None:
        if point == trade_off.unpruned:
            return 1.0
        ratio = point.times_as_fast(runtime)
        return None if ratio is None else 1 / ratio

    return share


def _draw_panel(axes: Any, trade_off: TradeOff, cost_of: Callable[[Point], float | None]) -> None:
    known = [(cost, point) for point in trade_off.points if (cost := cost_of(point)) is not None]
    axes.plot([cost for cost, _ in known], [point.ap for _, point in known], "-o", color=_STEP)
    for cost, point in known:
        if point == trade_off.best:
            axes.plot(cost, point.ap, "o", color=_BEST, markersize=9)
        axes.annotate(
            point.name, (cost, point.ap), (4, 5), textcoords="offset points", size=7, color=_INK
        )
    axes.axhline(trade_off.unpruned.ap - trade_off.max_ap_drop, color=_LIMIT, linestyle="--")
    axes.set_xlim(left=0)
    axes.margins(x=0.15, y=0.15)
    axes.grid(visible=True, color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
