"""Sessions on the CPU, outside the server: ONNX Runtime and OpenVINO."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bodypose_tools.results.machine import cpu_fields
from pose_runtime.openvino_network import cpu_settings

if TYPE_CHECKING:
    import onnxruntime
    import openvino


def onnx_session(model: Path | bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU.

    Its threads sleep between calls: spinning threads would slow the sides that are timed in turn.

    Args:
        model: ONNX file, or its bytes.
        threads: number of threads; 0: all cores.
    """
    import onnx
    import onnxruntime

    from bodypose_tools.graphs.quantised import has_activation_scales_by_channel

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if isinstance(model, bytes):
        graph = onnx.load_from_string(model)
    else:
        graph = onnx.load(model, load_external_data=False)
    if has_activation_scales_by_channel(graph):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def cpu_flags() -> frozenset[str]:
    """The instruction sets of this CPU, as Linux calls them; elsewhere none."""
    return frozenset(cpu_fields().get("flags", "").split())


def has_int8(flags: Collection[str]) -> bool:
    """Whether a CPU adds INT8 products in 32 bits: VNNI or AMX."""
    return any("vnni" in flag or flag == "amx_int8" for flag in flags)


def has_bfloat16(flags: Collection[str]) -> bool:
    """Whether a CPU multiplies bfloat16."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def int8_warning() -> str | None:
    """The warning about INT8 graphs in OpenVINO on this CPU; None where sums are exact.

    VNNI and AMX add INT8 products in 32 bits. AVX2 alone adds pairs of products in 16 bits and
    saturates: with all layers of `bodypose-s` in INT8, 0.45 of the joints stay; with VNNI more than
    0.76.
    """
    flags = cpu_flags()
    if "avx2" not in flags or has_int8(flags):
        return None
    return (
        "this CPU has AVX2 without VNNI, where OpenVINO's INT8 sums overflow: keypoints may be"
        " wrong; serve the float graph here, or run `tools gate INT8 --runtime openvino` first"
    )


@cache
def openvino_core() -> openvino.Core:
    """The only OpenVINO core of this process; it lives as long as the process.

    A core installs its own signal stack and restores the previous one when it is deleted. With two
    cores the previous stack may belong to a core that is deleted already; the next Ctrl-C is then a
    segmentation fault (OpenVINO 2026.4).
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
        precision: as `cpu_settings` takes it.
        threads: likewise.
        shapes: of the inputs, fixed before compiling; None: any shape, which is slower.
        hint: likewise.
    """
    core = openvino_core()
    graph = core.read_model(model)
    if shapes is not None:
        graph.reshape({index: list(shape) for index, shape in enumerate(shapes)})
    return core.compile_model(graph, "CPU", cpu_settings(precision, threads, hint))
