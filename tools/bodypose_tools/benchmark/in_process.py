"""The ideal that the ensemble is compared with: its three steps in one process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bodypose_tools.server.load import Ask, closed_loop
from pose_runtime.grouping import people_in_image
from pose_runtime.images import network_pixels
from pose_runtime.poses import Poses

from .conditions import Setting
from .networks import openvino_graph

Step = Callable[[], Any]


def pipeline(setting: Setting, jpeg: bytes, threads: int, precision: str) -> Callable[[], Poses]:
    """A function that finds the people of one image: decode, network with `threads`, grouping."""
    spec = setting.spec
    network = openvino_graph(setting.model, threads, precision, [(1, *spec.pixels.dims)])

    def run() -> Poses:
        pixels, letterbox = network_pixels(jpeg, spec.network_hw, spec.limits)
        peaks, limb_scores = network(pixels[None])
        return people_in_image(peaks[0], limb_scores[0], letterbox.to_geometry(), spec)

    return run


def ideal_ways(
    setting: Setting, jpeg: bytes, precision: str
) -> dict[str, Callable[[float], float]]:
    """Two ways to use all cores, one image on all of them or one image on each: each measures its
    images/s for so many seconds.
    """
    whole = [pipeline(setting, jpeg, setting.threads, precision)]
    apart = [pipeline(setting, jpeg, 1, precision) for _ in range(setting.threads)]
    return {
        "one image on all cores": partial(_rate, whole),
        "an image on each core": partial(_rate, apart),
    }


def steps_of(setting: Setting, jpeg: bytes, precision: str) -> dict[str, Step]:
    """Each step alone, with all threads."""
    spec = setting.spec
    network = openvino_graph(setting.model, setting.threads, precision, [(1, *spec.pixels.dims)])
    pixels, letterbox = network_pixels(jpeg, spec.network_hw, spec.limits)
    peaks, limb_scores = (np.array(output[0]) for output in network(pixels[None]))
    return {
        "preprocess": lambda: network_pixels(jpeg, spec.network_hw, spec.limits),
        "network": lambda: network(pixels[None]),
        "grouping": lambda: people_in_image(peaks, limb_scores, letterbox.to_geometry(), spec),
    }


def _rate(runs: list[Callable[[], Poses]], seconds: float) -> float:
    """Images/s when each of `runs` has a thread of its own, as the server's clients have."""
    own = iter(runs)

    def make_ask() -> Ask:
        run = next(own)
        return lambda: run() is not None

    return round(closed_loop(make_ask, len(runs), seconds).per_second, 2)
