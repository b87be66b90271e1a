"""Owns the speed of a network alone on the CPU: runtimes and precisions in one interleaved run.

Only ratios of one run say something: every round times every variant once, in turn, so that what
else the machine does meets all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.graphs.contract import spec_in_onnx

from .clock import take_turns
from .cpu import onnx_session, openvino_model
from .machine import machine

_REPEATS = 3  # of a variant in a round; the fastest counts
BASELINE = "openvino fp32"

Run = Callable[[NDArray[np.uint8]], object]


@dataclass(frozen=True, slots=True, eq=False)
class Timing:
    """Seconds of one variant, a number per round."""

    name: str
    seconds: NDArray[np.float64]

    def compared_with(self, baseline: Timing) -> dict[str, float]:
        """How many times as fast, round by round: median, and the middle 80 %."""
        ratios = baseline.seconds / self.seconds
        return _summary(ratios, digits=2)

    @property
    def milliseconds(self) -> dict[str, float]:
        return _summary(self.seconds * 1000, digits=1)


def _summary(values: NDArray[np.float64], digits: int) -> dict[str, float]:
    low, middle, high = np.percentile(values, (10, 50, 90))
    named = {"median": middle, "p10": low, "p90": high}
    return {name: round(float(value), digits) for name, value in named.items()}


def variants(
    float_model: Path, int8_model: Path, threads: int, shape: Sequence[int]
) -> dict[str, Run]:
    """Every runtime with float32, bfloat16 where it has it, and INT8, for inputs of one shape."""
    openvino = partial(_openvino, threads=threads, shape=shape)
    return {
        BASELINE: openvino(float_model, "f32"),
        "openvino bf16": openvino(float_model, "bf16"),
        "openvino int8": openvino(int8_model, "f32"),
        "openvino int8, rest bf16": openvino(int8_model, "bf16"),
        "onnxruntime fp32": _onnxruntime(float_model, threads),
        "onnxruntime int8": _onnxruntime(int8_model, threads),
    }


def _openvino(model: Path, precision: str, threads: int, shape: Sequence[int]) -> Run:
    request = openvino_model(model, precision, threads, [shape]).create_infer_request()
    return lambda pixels: request.infer([pixels])


def _onnxruntime(model: Path, threads: int) -> Run:
    session = onnx_session(model, threads)
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})


def measure(
    runs: Mapping[str, Run],
    pixels: NDArray[np.uint8],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time every variant once a round, in turn.

    Args:
        runs: by name.
        pixels: (B, H, W, 3), given to every call.
        rounds: how often.
        clock: seconds.
    """
    sides = {name: partial(run, pixels) for name, run in runs.items()}
    seconds = take_turns(sides, rounds, _REPEATS, clock)
    return [Timing(name, spans) for name, spans in seconds.items()]


def speed_up_record(
    whole: Path, pruned: Path, pixels: NDArray[np.uint8], rounds: int, threads: int
) -> dict[str, Any]:
    """How many times as fast a pruned network is, in each runtime, both in float32.

    Each runtime has a run of its own.
    """
    described = _described((whole, pruned), pixels, rounds, threads)
    runtimes = {}
    for name, load in (
        ("openvino", partial(_openvino, precision="f32", shape=pixels.shape)),
        ("onnxruntime", _onnxruntime),
    ):
        runs = {"whole": load(whole, threads=threads), "pruned": load(pruned, threads=threads)}
        before, after = measure(runs, pixels, rounds)
        runtimes[name] = {
            "unpruned_ms": before.milliseconds,
            "pruned_ms": after.milliseconds,
            "times_as_fast": after.compared_with(before),
        }
    return {
        "schema": "bodypose-speed-up/1",
        **described,
        "runtimes": runtimes,
    }


def speed_record(
    float_model: Path, int8_model: Path, pixels: NDArray[np.uint8], rounds: int, threads: int
) -> dict[str, Any]:
    """Measure and describe: machine, versions, times and ratios to `BASELINE`, for JSON."""
    described = _described((float_model, int8_model), pixels, rounds, threads)
    timings = measure(variants(float_model, int8_model, threads, pixels.shape), pixels, rounds)
    baseline = next(timing for timing in timings if timing.name == BASELINE)
    return {
        "schema": "bodypose-network-speed/1",
        **described,
        "baseline": BASELINE,
        "variants": {
            timing.name: {
                "milliseconds": timing.milliseconds,
                "times_as_fast": timing.compared_with(baseline),
            }
            for timing in timings
        },
    }


def _described(
    models: Sequence[Path], pixels: NDArray[np.uint8], rounds: int, threads: int
) -> dict[str, Any]:
    """What is measured, and where; asked for before the first measurement."""
    artifacts = [Artifact.open(path) for path in models]
    return {
        "models": [{"name": a.path.name, "sha256": a.sha256} for a in artifacts],
        "network_hw": spec_in_onnx(models[0]).network_hw,
        "batch": len(pixels),
        "threads": threads,
        "rounds": rounds,
        "machine": machine(),
        "versions": {name: metadata.version(name) for name in ("openvino", "onnxruntime")},
    }
