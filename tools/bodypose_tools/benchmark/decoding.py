"""The measurement of decoding: the layers after the last convolution, and grouping."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.photos import packaged_images
from bodypose_tools.runtimes.clock import compared, milliseconds, take_turns
from pose_runtime.grouping import group_poses

from .conditions import Setting
from .crowds import crowd, noise, with_peaks
from .graph_parts import after_the_convolutions
from .networks import onnxruntime_graph, openvino_graph

PEOPLE = (1, 2, 5, 10, 20, 35, 50)
_SEEDS = 8


def measure(setting: Setting) -> dict[str, Any]:
    """Milliseconds of grouping by people per image, and of the decoding layers by runtime."""
    return {"grouping": _grouping(setting), "layers": _layers(setting)}


def _grouping(setting: Setting) -> dict[str, Any]:
    """Milliseconds of one image on one thread, by people in it; "noise" joins all peaks."""
    results = {}
    for num_people in PEOPLE:
        spec = with_peaks(setting.spec, num_people)
        images = [crowd(spec, num_people, seed) for seed in range(_SEEDS)]
        sides = {
            str(seed): partial(group_poses, *image, spec.skeleton, spec.grouping)
            for seed, image in enumerate(images)
        }
        seconds = take_turns(sides, rounds=setting.pick(30, 100), repeats=3)
        results[str(num_people)] = milliseconds(np.concatenate(list(seconds.values())))
    spec = setting.spec
    worst = partial(group_poses, *noise(spec), spec.skeleton, spec.grouping)
    seconds = take_turns({"noise": worst}, rounds=setting.pick(15, 50))
    return {"by_people": results, "noise": milliseconds(seconds["noise"])}


def _layers(setting: Setting) -> dict[str, Any]:
    """Milliseconds of the graph after the last convolutions, on the fields of a photo."""
    head, tail = after_the_convolutions(setting.model)
    pixels = packaged_images(setting.spec.network_hw)[:1]
    fields = onnxruntime_graph(head, setting.threads)(pixels)
    results: dict[str, Any] = {}
    for name, graph in (
        (
            "openvino",
            openvino_graph(tail, setting.threads, shapes=[array.shape for array in fields]),
        ),
        ("onnxruntime", onnxruntime_graph(tail, setting.threads)),
    ):
        run = partial(_run, graph, fields)
        seconds = take_turns({name: run}, rounds=setting.pick(50, 200), repeats=3)
        results |= compared(seconds, name)
    return results


def _run(graph: Any, fields: Sequence[NDArray[Any]]) -> object:
    return graph(*fields)
