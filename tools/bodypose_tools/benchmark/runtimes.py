"""The measurement of the network by runtime, precision, batch, threads and OpenVINO's hints."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from bodypose_tools.data.photos import packaged_images
from bodypose_tools.runtimes.clock import compared, spread, take_turns

from .conditions import Pixels, Setting
from .networks import Graph, onnxruntime_graph, openvino_graph, openvino_throughput

BATCHES = (1, 2, 4, 8)
BASELINE = "openvino f32"
_PRECISIONS = ("f32", "bf16")


def measure(setting: Setting) -> dict[str, Any]:
    """Milliseconds of a batch by runtime; images/s with the throughput hint; by threads."""
    photos = packaged_images(setting.spec.network_hw)
    graphs = _graphs(setting, setting.threads)
    by_batch = {}
    for batch in BATCHES:
        pixels = np.resize(photos, (batch, *photos.shape[1:]))
        sides = {name: partial(graph, pixels) for name, graph in graphs.items()}
        seconds = take_turns(sides, rounds=setting.pick(6, 25), repeats=2)
        by_batch[str(batch)] = compared(seconds, BASELINE)
    return {
        "by_batch": by_batch,
        "throughput_hint_images_per_s": _throughput(setting, photos[:1]),
        "by_threads": _by_threads(setting, photos[:1]),
    }


def _graphs(setting: Setting, threads: int) -> dict[str, Graph]:
    graphs = {
        f"openvino {precision}": openvino_graph(setting.model, threads, precision)
        for precision in _PRECISIONS
    }
    alone = openvino_graph(setting.model, threads, shapes=[(1, *setting.spec.pixels.dims)])
    return {
        **graphs,
        "openvino f32, one by one": lambda pixels: [alone(image[None])[0] for image in pixels],
        "onnxruntime f32": onnxruntime_graph(setting.model, threads),
    }


def _throughput(setting: Setting, pixels: Pixels) -> dict[str, Any]:
    """Images/s with OpenVINO's throughput hint and with its latency hint, in turns."""
    results = {}
    times = setting.pick(16, 60)
    for precision in _PRECISIONS:
        many = openvino_throughput(setting.model, setting.threads, precision, pixels)
        one = openvino_graph(setting.model, setting.threads, precision)
        rates: dict[str, list[float]] = {"throughput": [], "latency": []}
        for _ in range(setting.pick(3, 6)):
            started = time.perf_counter()
            many(times)
            rates["throughput"].append(times / (time.perf_counter() - started))
            started = time.perf_counter()
            for _ in range(times):
                one(pixels)
            rates["latency"].append(times / (time.perf_counter() - started))
        results[precision] = {hint: spread(np.array(rate)) for hint, rate in rates.items()}
    return results


def _by_threads(setting: Setting, pixels: Pixels) -> dict[str, Any]:
    """Milliseconds of one image by number of threads: 1, 2, 4 ... up to the setting's."""
    counts = [1]
    while counts[-1] < setting.threads:
        counts.append(min(2 * counts[-1], setting.threads))
    results = {}
    for threads in counts:
        sides = {name: partial(graph, pixels) for name, graph in _graphs(setting, threads).items()}
        seconds = take_turns(sides, rounds=setting.pick(5, 20), repeats=2)
        results[str(threads)] = compared(seconds, BASELINE)
    return results
