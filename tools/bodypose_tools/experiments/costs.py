"""The cost of a run's network: parameters, multiply-accumulates, CPU time against others'."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_tools.export.onnx_from_keras import export_onnx
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.networks.decoding import DecodeSettings
from bodypose_tools.networks.keras_files import load_network
from bodypose_tools.networks.network import build_network
from bodypose_tools.pruning.channel_graph import count_macs
from bodypose_tools.runtimes.clock import take_turns
from bodypose_tools.runtimes.predictors import onnx_predictor
from bodypose_tools.training.log import BEST_FILE

from .runs import Run


def with_sizes(run: Run, folder: Path) -> Run:
    """With parameters and GMAC at the run's own input size.

    Where best.keras stayed on another machine they are those of a network as the spec describes
    it; they stay unknown if the spec takes its graph from a file (`load_graph`).
    """
    if (folder / BEST_FILE).is_file():
        network = load_network(folder / BEST_FILE)[0]
    elif not run.spec.load_graph:
        network = build_network(run.spec.model, run.skeleton)
    else:
        return run
    gmacs = count_macs(network, run.network_hw) / 1e9
    return replace(run, parameters=int(network.count_params()), gmacs=round(gmacs, 3))


def with_latency_ratios(runs: Sequence[Run], folders: Sequence[Path], rounds: int) -> list[Run]:
    """With ONNX Runtime's time for one image on this CPU, as a multiple of the first run's.

    All networks take turns in every round, decoding layers included.
    """
    with tempfile.TemporaryDirectory() as scratch:
        calls: dict[str, Any] = {}
        for number, folder in enumerate(folders):
            path = Path(scratch) / f"{number}.onnx"
            export_onnx(
                folder / BEST_FILE,
                path,
                network_hw=None,
                decode=DecodeSettings(),
                samples=_grey_pictures,
            )
            spec = spec_in_onnx(path)
            pixels = _grey_pictures(spec.network_hw)[:1]
            calls[str(number)] = partial(onnx_predictor(path, spec), pixels)
        seconds = list(take_turns(calls, rounds, repeats=3).values())
    return [
        replace(run, latency_ratio=round(float(np.median(own / seconds[0])), 3))
        for run, own in zip(runs, seconds, strict=True)
    ]


def _grey_pictures(network_hw: tuple[int, int]) -> Any:
    return np.random.default_rng(0).integers(96, 160, (2, *network_hw, 3), np.uint8)
