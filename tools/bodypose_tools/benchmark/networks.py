"""Graphs as functions in ONNX Runtime and in OpenVINO, for the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.runtimes.cpu import onnx_session, openvino_model

# Inputs in the graph's order -> outputs in the graph's order.
Graph = Callable[..., Sequence[NDArray[Any]]]


def onnxruntime_graph(model: Path | bytes, threads: int) -> Graph:
    """A graph in ONNX Runtime; `threads` as in `onnx_session`."""
    session = onnx_session(model, threads)
    names = [tensor.name for tensor in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def openvino_graph(
    model: Path | bytes,
    threads: int,
    precision: str = "f32",
    shapes: Sequence[Sequence[int]] | None = None,
) -> Graph:
    """A graph in OpenVINO, one request at a time; `shapes` as in `openvino_model`."""
    compiled = openvino_model(model, precision, threads, shapes)
    request, count = compiled.create_infer_request(), len(compiled.outputs)

    def run(*inputs: NDArray[Any]) -> Sequence[NDArray[Any]]:
        request.infer(list(inputs), share_inputs=True)
        return [request.get_output_tensor(index).data for index in range(count)]

    return run


def openvino_throughput(
    model: Path | bytes, threads: int, precision: str, pixels: NDArray[np.uint8]
) -> Callable[[int], None]:
    """A function that runs a number of requests; OpenVINO chooses how many at a time."""
    import openvino

    compiled = openvino_model(model, precision, threads, hint="THROUGHPUT")
    queue = openvino.AsyncInferQueue(compiled)

    def run(times: int) -> None:
        for _ in range(times):
            queue.start_async([pixels], share_inputs=True)
        queue.wait_all()

    return run
