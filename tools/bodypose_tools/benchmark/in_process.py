"""Owns the ideal that the ensemble is held against: its three steps in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bodypose_tools.runtimes.clock import milliseconds, take_turns
from pose_runtime.grouping import people_in_image
from pose_runtime.images import network_pixels
from pose_runtime.poses import Poses

from .conditions import Setting
from .networks import openvino_graph

Step = Callable[[], Any]


def pipeline(setting: Setting, jpeg: bytes, threads: int, precision: str) -> Callable[[], Poses]:
    """One image through decode, network and grouping; the network has `threads`."""
    spec = setting.spec
    network = openvino_graph(setting.model, threads, precision, [(1, *spec.pixels.dims)])

    def run() -> Poses:
        pixels, letterbox = network_pixels(jpeg, spec.network_hw, spec.limits)
        peaks, limb_scores = network(pixels[None])
        return people_in_image(peaks[0], limb_scores[0], letterbox.to_geometry(), spec)

    return run


def ideal_images_per_s(
    setting: Setting, jpeg: bytes, precision: str, seconds: float
) -> dict[str, float]:
    """Images/s of both ways to use all cores: one image on all, or an image for each."""
    whole = [pipeline(setting, jpeg, setting.threads, precision)]
    apart = [pipeline(setting, jpeg, 1, precision) for _ in range(setting.threads)]
    return {
        "one image on all cores": _rate(whole, seconds),
        "an image on each core": _rate(apart, seconds),
    }


def steps_ms(setting: Setting, jpeg: bytes, precision: str) -> dict[str, Any]:
    """Milliseconds of each step alone, with all threads."""
    spec = setting.spec
    network = openvino_graph(setting.model, setting.threads, precision, [(1, *spec.pixels.dims)])
    pixels, letterbox = network_pixels(jpeg, spec.network_hw, spec.limits)
    peaks, limb_scores = (np.array(output[0]) for output in network(pixels[None]))
    steps: dict[str, Step] = {
        "preprocess": lambda: network_pixels(jpeg, spec.network_hw, spec.limits),
        "network": lambda: network(pixels[None]),
        "grouping": lambda: people_in_image(peaks, limb_scores, letterbox.to_geometry(), spec),
    }
    seconds = take_turns(steps, rounds=setting.pick(20, 60))
    return {name: milliseconds(values) for name, values in seconds.items()}


def _rate(runs: list[Callable[[], Poses]], seconds: float) -> float:
    counts = [0] * len(runs)
    for run in runs:
        run()
    end = time.perf_counter() + seconds

    def work(index: int) -> None:
        while time.perf_counter() < end:
            runs[index]()
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return round(sum(counts) / seconds, 2)
