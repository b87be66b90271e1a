"""The network on a CPU, in OpenVINO."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from .door import joined
from .spec import PipelineSpec

# OpenVINO's package `openvino-telemetry` sends usage statistics unasked, from a process that it
# forks when a network is read. None says to Python that there is no such package; OpenVINO then
# goes without.
cast(dict[str, ModuleType | None], sys.modules).setdefault("openvino_telemetry", None)


def cpu_settings(precision: str, threads: int | None, hint: str = "LATENCY") -> dict[str, Any]:
    """What OpenVINO is told when it compiles a network for the CPU.

    Args:
        precision: "f32" or "bf16".
        threads: of a call; None: all cores.
        hint: "LATENCY" for one call at a time, "THROUGHPUT" for as many as OpenVINO chooses.
    """
    settings: dict[str, Any] = {
        # Left alone, OpenVINO takes bfloat16 where the processor has it, and keypoints move.
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": hint,
        # Left alone, it pins the threads of every process to the same first cores, and several
        # workers or instances share what one could have (2026.4; two workers on two cores: half
        # the rate).
        "ENABLE_CPU_PINNING": False,
    }
    return settings if threads is None else {**settings, "INFERENCE_NUM_THREADS": threads}


def openvino_network(
    model: Path, spec: PipelineSpec, precision: str, threads: int, batch: int
) -> Callable[[Any], list[Any]]:
    """The network as a function: pixels (B, H, W, 3) uint8 to peaks and limb scores.

    Args:
        model: ONNX file from `tools export`, float or INT8.
        spec: its tensors.
        precision: "f32" or "bf16", of what is not INT8.
        threads: of a call.
        batch: how many of B images are computed at once. On a CPU several take as long as one after
            the other, and one at a time needs a fraction of the memory.
    """
    import openvino

    core = openvino.Core()
    graph = core.read_model(model)
    graph.reshape({spec.pixels.name: [batch if batch == 1 else -1, *spec.pixels.dims]})
    settings = {**cpu_settings(precision, threads), "NUM_STREAMS": 1}
    compiled = core.compile_model(graph, "CPU", settings)
    request = compiled.create_infer_request()
    outputs = [compiled.output(tensor.name) for tensor in (spec.peaks, spec.limb_scores)]

    def run(pixels: Any) -> list[Any]:
        parts = []
        for first in range(0, len(pixels), batch):
            part = {spec.pixels.name: pixels[first : first + batch]}
            results = request.infer(part, share_inputs=True)
            parts.append([results[output] for output in outputs])
        return [joined(each) for each in zip(*parts, strict=True)]

    return run
