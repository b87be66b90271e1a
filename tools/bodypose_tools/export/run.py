"""One run of `tools export`: the graph in the arithmetic asked for, and the engine of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bodypose_tools.engines.settings import EngineSettings
from bodypose_tools.files.artifacts import Artifact
from pose_runtime.errors import EngineError

from .lower_precision import Gates, export_half, export_int8
from .settings import DataType, Int8Settings
from .source import ExportSource


def export_graph(
    source: ExportSource,
    out: Path,
    data_type: DataType,
    gates: Gates,
    int8: Int8Settings,
    say: Callable[[str], None],
) -> tuple[Artifact, str]:
    """Write the ONNX graph, and say in one line how far it is from the network.

    Args:
        source: what is exported.
        out: ONNX file to write.
        data_type: arithmetic of the graph.
        gates: what a graph of lower precision must keep; float32 has none.
        int8: for `DataType.INT8`.
        say: gets a line about each step.

    Raises:
        ExportError, AccuracyGateError: the graph differs by too much; nothing was written.
        CalibrationError: too few images, or a calibration file of something else.
    """
    match data_type:
        case DataType.FP32:
            return _export_float(source, out)
        case DataType.FP16:
            made = export_half(source, out, gates)
            return made, f"fp16; {made.settings['gates'][0]['value']:.4f} of the joints stay"
        case DataType.INT8:
            made, quantised = export_int8(source, out, int8, gates, say)
            return made, (
                f"int8: {quantised.int8_layers} layers INT8, {len(quantised.float_layers)} moved to"
                f" float; {'; '.join(map(str, quantised.verdicts))}"
            )


def _export_float(source: ExportSource, out: Path) -> tuple[Artifact, str]:
    from .onnx_from_keras import export_onnx

    made, difference = export_onnx(
        source.model,
        out,
        network_hw=source.network_hw,
        decode=source.decode,
        samples=source.samples,
    )
    unit = "of a field's value" if source.decode is None else "network pixels"
    return made, f"fp32; Keras and ONNX differ by at most {difference:.2g} {unit}"


def refuse_what_has_no_engine(
    source: ExportSource, settings: EngineSettings, say: Callable[[str], None]
) -> None:
    """Stop before the long work when no engine can be built of `source` here.

    Raises:
        EngineError: without decoding layers, without the runtime, or without a GPU for it.
    """
    from bodypose_tools.engines.build import builder_for

    if not source.has_decoding_layers:
        raise EngineError("expected --sdk-compatible-model with --engine-file: engines decode, too")
    builder_for(settings, say)
