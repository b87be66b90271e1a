"""The speed of a network alone on the CPU: runtimes and precisions in one interleaved run.

Only ratios of one run can be compared: every round times every variant in turn, so that other work
of the machine slows all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.results.machine import machine

from .clock import Seconds, compared, take_turns
from .cpu import onnx_session, openvino_model

_REPEATS = 3  # of a variant in a round; the fastest counts
BASELINE = "openvino fp32"

Run = Callable[[NDArray[np.uint8]], object]


def variants(
    float_model: Path, int8_model: Path, threads: int, shape: Sequence[int]
) -> dict[str, Run]:
    """Functions that run the network once, by runtime and precision, for inputs of one shape."""
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
    halfway: Callable[[], object] = lambda: None,
) -> dict[str, Seconds]:
    """Seconds of every variant, (rounds,): the fastest of 3 calls a round, variants in turn.

    Args:
        runs: by name.
        pixels: (B, H, W, 3), given to every call.
        rounds: number of rounds.
        clock: seconds.
        halfway: called once between two rounds, untimed.
    """
    sides = {name: partial(run, pixels) for name, run in runs.items()}
    return take_turns(sides, rounds, _REPEATS, clock, halfway)


def speed_up_record(
    whole: Path, pruned: Path, pixels: NDArray[np.uint8], rounds: int, threads: int
) -> dict[str, Any]:
    """Milliseconds of a network and of its pruned version in float32, and their ratio, for JSON.

    Each runtime has a run of its own.

    Args:
        whole: ONNX file of the network before pruning.
        pruned: the same after pruning.
        pixels: (B, H, W, 3) uint8.
        rounds: number of rounds.
        threads: of each runtime.
    """
    described = _described((whole, pruned), pixels, rounds, threads)
    runtimes = {}
    for name, load in (
        ("openvino", partial(_openvino, precision="f32", shape=pixels.shape)),
        ("onnxruntime", _onnxruntime),
    ):
        runs = {"whole": load(whole, threads=threads), "pruned": load(pruned, threads=threads)}
        sides = compared(measure(runs, pixels, rounds), "whole")
        runtimes[name] = {
            "unpruned_ms": sides["whole"]["milliseconds"],
            "pruned_ms": sides["pruned"]["milliseconds"],
            "times_as_fast": sides["pruned"]["times_as_fast"],
        }
    return {
        "schema": "bodypose-speed-up/1",
        **described,
        "machine": machine(),
        "versions": {name: metadata.version(name) for name in ("openvino", "onnxruntime")},
        "runtimes": runtimes,
    }


def speed_record(
    float_model: Path,
    int8_model: Path,
    pixels: NDArray[np.uint8],
    rounds: int,
    threads: int,
    halfway: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Milliseconds of every variant and its ratio to `BASELINE`, for JSON.

    Args:
        float_model: ONNX file in float32.
        int8_model: its INT8 version.
        pixels: (B, H, W, 3) uint8.
        rounds: number of rounds.
        threads: of each runtime.
        halfway: called once between two rounds, untimed.
    """
    described = _described((float_model, int8_model), pixels, rounds, threads)
    runs = variants(float_model, int8_model, threads, pixels.shape)
    seconds = measure(runs, pixels, rounds, halfway=halfway)
    return {
        "schema": "bodypose-network-speed/1",
        **described,
        "baseline": BASELINE,
        "variants": compared(seconds, BASELINE),
    }


def _described(
    models: Sequence[Path], pixels: NDArray[np.uint8], rounds: int, threads: int
) -> dict[str, Any]:
    """Models and input."""
    artifacts = [Artifact.open(path) for path in models]
    specs = [spec_in_onnx(path) for path in models]
    return {
        "models": [{"name": a.path.name, "sha256": a.sha256} for a in artifacts],
        "network_hw": specs[0].network_hw,
        "batch": len(pixels),
        "threads": threads,
        "rounds": rounds,
    }
