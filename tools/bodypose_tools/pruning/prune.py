"""Pruning: whole channels are removed, and the smaller network is a normal `.keras` file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import keras
import numpy as np

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.networks.keras_files import check_keras_name, load_network, save_network

from .channel_graph import ChannelGraph, Ints, Keep, rebuild, trace_channels
from .importance import Floats, channel_scores, weight_stats
from .report import LayerWidth, PruneReport
from .settings import (
    Cost,
    CostTarget,
    Importance,
    PruneError,
    PruneSettings,
)

# Numbers per output channel of the layers that channels are scored by, by layer name.
Stats = Mapping[str, Floats]
Measure = Callable[[keras.Model, ChannelGraph], Stats]


def prune(
    model: Path,
    settings: PruneSettings,
    goal: float | CostTarget,
    *,
    out: Path | None,
    measured: Measure | None = None,
) -> tuple[Artifact | None, PruneReport]:
    """Write `model` without its least important channels.

    Args:
        model: `.keras` file with its record.
        settings: how channels are scored.
        goal: the threshold on their scores, or what may remain: then the threshold is found.
        out: file to write; None writes nothing and only reports.
        measured: computes `Importance.TAYLOR` from a training set; the others are read from
            weights.

    Raises:
        PruneError: the threshold or target is outside of the usable range.
        UnknownLayerError: a layer of which it is not known how channels pass through it.
    """
    if out is not None:
        check_keras_name(out)
    network, pipeline, parent = load_network(model)
    graph = trace_channels(network, pipeline.network_hw)
    selection = Selection(
        graph,
        weight_stats(network, graph, settings.importance)
        if measured is None
        else measured(network, graph),
        settings,
        goal.cost if isinstance(goal, CostTarget) else None,
    )
    threshold = selection.threshold_for(goal) if isinstance(goal, CostTarget) else goal
    keep = selection.keep(threshold)
    report = _report(graph, keep, threshold, model)
    if out is None:
        return None, report
    described = {
        "threshold": threshold,
        "target": None if isinstance(goal, float) else {goal.cost.value: goal.share},
        "normalizer": settings.normalizer.value,
        "equalization_criterion": settings.equalization.value,
        "pruning_granularity": settings.granularity,
        "min_num_filters": settings.min_filters,
        "excluded_layers": list(settings.excluded_layers),
        "importance": settings.importance.value,
        **report.to_json(),
    }
    pruned = rebuild(network, graph, keep)
    made = save_network(pruned, out, "prune", pipeline, parent, settings={"pruning": described})
    return made, report.with_size_of(out)


class Selection:
    """Which channels stay at a threshold.

    Channels of the same layers form a block, and TAO's rule holds per block: those above the
    threshold stay, but at least `min_filters`, rounded up to a multiple of `granularity`.

    When a cost is to be saved, a change of the loss is divided by the channel's cost: otherwise
    the wide, cheap layers would be cut first, and the few expensive ones stay.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        stats: Stats,
        settings: PruneSettings,
        saved: Cost | None = None,
    ) -> None:
        self._graph, self._settings = graph, settings
        self._scores = (
            channel_scores(graph, stats, settings.compared_by, settings.equalization)
            if stats
            else np.full(graph.num_channels, np.nan)
        )
        stays = graph.protected | _excluded(graph, settings.excluded_layers)
        self._blocks = _blocks(graph, ~stays & ~np.isnan(self._scores))
        if settings.importance is Importance.TAYLOR and saved is not None:
            for block in self._blocks:
                self._scores[block] /= self._cost_of_a_channel(block, saved)

    def keep(self, threshold: float) -> Keep:
        """The channels that stay.

        Raises:
            PruneError: every layer would fall to its floor.
        """
        first, collapse = self.usable_range()
        if threshold >= collapse:
            raise PruneError(
                f"threshold: expected below {collapse:.4g}, where every layer falls to its floor of"
                f" {self._settings.min_filters} filters, got {threshold:.4g};"
                f" the first filters go at {first:.4g}"
            )
        return self._keep(threshold)

    def usable_range(self) -> tuple[float, float]:
        """The thresholds at which the first channel goes, and at which no more can go.

        Raises:
            PruneError: no channel may go.
        """
        granularity = self._settings.granularity
        first, collapse = [], []
        for block in self._blocks:
            width, floor = len(block), self._count(0, len(block))
            if floor < width:
                ranked = np.sort(self._scores[block])[::-1]
                first.append(ranked[(width - 1) // granularity * granularity])
                collapse.append(ranked[floor])
        if not first:
            raise PruneError(
                "expected layers with filters to spare, got none;"
                " lower -nf/--min-num-filters or exclude fewer layers"
            )
        return float(min(first)), float(max(collapse))

    def threshold_for(self, target: CostTarget) -> float:
        """The smallest threshold that leaves at most the target's share.

        Raises:
            PruneError: even the largest usable threshold leaves more.
        """
        low, collapse = self.usable_range()
        scores = np.unique(np.concatenate([self._scores[block] for block in self._blocks]))
        steps = scores[(scores >= low) & (scores < collapse)]
        smallest = self._share(steps[-1], target.cost) if len(steps) else 1.0
        if smallest > target.share:
            raise PruneError(
                f"--target-{target.cost}: expected at least {smallest:.4f}, which remains when"
                f" almost every layer is at its floor of {self._settings.min_filters} filters, got"
                f" {target.share:g}; lower -nf/--min-num-filters"
            )
        first, last = 0, len(steps) - 1
        while first < last:
            middle = (first + last) // 2
            if self._share(steps[middle], target.cost) <= target.share:
                last = middle
            else:
                first = middle + 1
        return float(steps[first])

    def _share(self, threshold: float, cost: Cost) -> float:
        return self._cost(self._keep(threshold), cost) / self._cost(self._graph.keep_all(), cost)

    def _cost_of_a_channel(self, block: Ints, cost: Cost) -> float:
        """Cost that the network saves without one channel of a block, on average."""
        keep = self._graph.keep_all()
        whole = self._cost(keep, cost)
        removed = block[: max(1, len(block) // 2)]
        keep[removed] = False
        return max(whole - self._cost(keep, cost), 1) / len(removed)

    def _cost(self, keep: Keep, cost: Cost) -> int:
        return (self._graph.count_macs if cost is Cost.MACS else self._graph.count_params)(keep)

    def _keep(self, threshold: float) -> Keep:
        keep = self._graph.keep_all()
        for block in self._blocks:
            scores = self._scores[block]
            count = self._count(int((scores > threshold).sum()), len(block))
            keep[block[np.argsort(-scores, kind="stable")[count:]]] = False
        return keep

    def _count(self, above: int, width: int) -> int:
        """TAO's rule: how many of `width` channels stay when `above` are above the threshold."""
        granularity = self._settings.granularity
        wanted = max(above, min(self._settings.min_filters, width))
        return min(-(-wanted // granularity) * granularity, width)


def _excluded(graph: ChannelGraph, patterns: tuple[str, ...]) -> Keep:
    excluded = np.zeros(graph.num_channels, bool)
    for pattern in patterns:
        calls = [call for call in graph.calls if fnmatchcase(call.layer, pattern)]
        if not calls:
            near = difflib.get_close_matches(pattern, [call.layer for call in graph.calls])
            raise PruneError(
                f"--excluded-layers: expected a layer of the network, got {pattern};"
                f" close: {', '.join(near) or 'none'}"
            )
        for call in calls:
            excluded[call.outputs] = True
    return excluded


def _blocks(graph: ChannelGraph, may_go: Keep) -> list[Ints]:
    """The channels that may go, by which convolutions make them."""
    made_by = np.zeros((graph.num_channels, len(graph.producers)), bool)
    for number, layer in enumerate(graph.producers):
        made_by[layer.outputs, number] = True
    # A block that holds one channel that must stay, stays as a whole.
    _, block_of = np.unique(made_by, axis=0, return_inverse=True)
    stays = np.unique(block_of[~may_go])
    return [
        np.flatnonzero(block_of == block) for block in np.unique(block_of) if block not in stays
    ]


def _report(graph: ChannelGraph, keep: Keep, threshold: float, model: Path) -> PruneReport:
    everything = graph.keep_all()
    return PruneReport(
        threshold=threshold,
        layers=tuple(
            LayerWidth(layer.name, len(layer.outputs), int(keep[layer.outputs].sum()))
            for layer in graph.producers
        ),
        params=(graph.count_params(everything), graph.count_params(keep)),
        macs=(graph.count_macs(everything), graph.count_macs(keep)),
        file_bytes=(model.stat().st_size, None),
    )
