"""Owns how a graph runs on the CPU, outside the server: in ONNX Runtime and in OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bodypose_tools.results.machine import cpu_fields

if TYPE_CHECKING:
    import onnxruntime
    import openvino


def onnx_session(model: Path | bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU.

    Its threads sleep between calls: spinning ones would disturb what is timed in turn with it.

    Args:
        model: ONNX file, or its bytes.
        threads: of a call; 0: all cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def int8_warning() -> str | None:
    """What to know before OpenVINO runs an INT8 graph on this CPU; None where sums are exact.

    VNNI and AMX add INT8 products in 32 bits. AVX2 alone adds pairs of them in 16 bits and cuts off
    what does not fit: of `bodypose-s`, all layers in INT8, 0.45 of the joints stay, with VNNI more
    than 0.76.
    """
    flags = cpu_fields().get("flags", "").split()
    if "avx2" not in flags or any("vnni" in flag or flag == "amx_int8" for flag in flags):
        return None
    return (
        "this CPU has AVX2 without VNNI, where OpenVINO's INT8 sums overflow: keypoints may be"
        " wrong; serve the float graph here, or run `tools gate INT8 --runtime openvino` first"
    )


@cache
def openvino_core() -> openvino.Core:
    """The one core of this process, which lives as long as the process does.

    Each core gives signals a stack of its own and, when it goes, the stack that was there before:
    with two cores that may be the other's, gone already. The next Ctrl-C is a segmentation fault
    then (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def openvino_model(
    model: Path | bytes,
    precision: str = "f32",
    threads: int | None = None,
    shapes: Sequence[Sequence[int]] | None = None,
    hint: str = "LATENCY",
) -> openvino.CompiledModel:
    """An OpenVINO model on the CPU.

    Args:
        model: ONNX file, or its bytes.
        precision: "f32" or "bf16"; left alone, OpenVINO takes bfloat16 where the CPU has it.
        threads: of a request; None: all cores.
        shapes: of the inputs, fixed before compiling; None: as they come, which is slower.
        hint: "LATENCY" for one request at a time, "THROUGHPUT" for as many as OpenVINO wants.
    """
    core = openvino_core()
    graph = core.read_model(model)
    if shapes is not None:
        graph.reshape({index: list(shape) for index, shape in enumerate(shapes)})
    hints: dict[str, str | int] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": hint,
    }
    if threads is not None:
        hints["INFERENCE_NUM_THREADS"] = threads
    return core.compile_model(graph, "CPU", hints)
