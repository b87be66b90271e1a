"""The `tools export` command: a network becomes an ONNX graph in the arithmetic asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bodypose_tools.engines.options import (
    PANEL,
    MaxBatchOption,
    OptBatchOption,
    RuntimeOption,
    WorkspaceOption,
    engine_settings,
)
from bodypose_tools.engines.settings import EngineRuntime
from bodypose_tools.options import KeyOption, network_hw_of, say_that_keys_do_nothing
from bodypose_tools.quantisation.settings import MAX_AP_DROP, MIN_AGREEMENT, Method

from .settings import DataType

if TYPE_CHECKING:
    from bodypose_tools.engines.settings import EngineSettings

    from .lower_precision import ExportSource, Gates

FOR_INT8 = "INT8"


def export(
    model: Annotated[
        Path,
        typer.Option(
            "-m", "--model", help="A .keras file; int8 and fp16 also from .onnx.", dir_okay=False
        ),
    ],
    output_file: Annotated[
        Path | None,
        typer.Option("-o", "--output_file", "--output-file", show_default="MODEL.onnx"),
    ] = None,
    input_dims: Annotated[
        str | None,
        typer.Option(
            "-d", "--input_dims", "--input-dims", help="H,W,3", show_default="as it was trained"
        ),
    ] = None,
    data_type: Annotated[DataType, typer.Option("--data_type", "--data-type")] = DataType.FP32,
    sdk_compatible_model: Annotated[
        bool,
        typer.Option(
            "--sdk_compatible_model",
            "--sdk-compatible-model",
            help="Append the decoding layers: what `tools build-repo` serves.",
        ),
    ] = False,
    max_peaks: Annotated[
        int, typer.Option("--max_peaks", "--max-peaks", min=1, help="Peaks kept per joint.")
    ] = 20,
    sample_images: Annotated[
        Path | None,
        typer.Option(
            "--sample_images",
            "--sample-images",
            help="Folder of images to compare Keras and ONNX on.",
            show_default="a photo that scikit-image ships",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    cal_image_dir: Annotated[
        Path | None,
        typer.Option(
            "--cal_image_dir",
            "--cal-image-dir",
            help="Training images, from `tools sample-calibration-images`.",
            exists=True,
            file_okay=False,
            rich_help_panel=FOR_INT8,
        ),
    ] = None,
    cal_data_file: Annotated[
        Path | None,
        typer.Option(
            "--cal_data_file",
            "--cal-data-file",
            help="HDF5 of calibration pixels: read if it exists, else written.",
            dir_okay=False,
            rich_help_panel=FOR_INT8,
        ),
    ] = None,
    cal_cache_file: Annotated[
        Path | None,
        typer.Option(
            "--cal_cache_file",
            "--cal-cache-file",
            help="Scales in TensorRT's text format: read if it exists, else written.",
            dir_okay=False,
            rich_help_panel=FOR_INT8,
        ),
    ] = None,
    cal_method: Annotated[
        Method,
        typer.Option("--cal_method", "--cal-method", rich_help_panel=FOR_INT8),
    ] = Method.PERCENTILE,
    batches: Annotated[
        int, typer.Option(min=1, help="Of calibration.", rich_help_panel=FOR_INT8)
    ] = 64,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch_size", "--batch-size", min=1, help="Of them.", rich_help_panel=FOR_INT8
        ),
    ] = 8,
    float_layers: Annotated[
        list[str] | None,
        typer.Option(
            "--float_layer",
            "--float-layer",
            help="Node to keep in float; can be repeated.",
            rich_help_panel=FOR_INT8,
        ),
    ] = None,
    unsigned_activations: Annotated[
        bool,
        typer.Option(
            "--unsigned_activations",
            "--unsigned-activations",
            help="For CPUs: finer levels where nothing is negative. TensorRT has none.",
            rich_help_panel=FOR_INT8,
        ),
    ] = False,
    auto_mixed: Annotated[
        bool,
        typer.Option(
            "--auto_mixed",
            "--auto-mixed",
            help="When a gate is missed, keep the fewest layers in float that pass it.",
            rich_help_panel=FOR_INT8,
        ),
    ] = False,
    gate_annotations: Annotated[
        Path | None,
        typer.Option(
            "--gate_annotations",
            "--gate-annotations",
            help="COCO file of the AP gate; without it joints are compared only.",
            dir_okay=False,
        ),
    ] = None,
    gate_images: Annotated[
        Path | None,
        typer.Option(
            "--gate_images",
            "--gate-images",
            help="Images of --gate-annotations.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    max_ap_drop: Annotated[
        float, typer.Option("--max_ap_drop", "--max-ap-drop", min=0.0, help="Of the AP gate.")
    ] = MAX_AP_DROP,
    min_agreement: Annotated[
        float,
        typer.Option(
            "--min_agreement",
            "--min-agreement",
            min=0.0,
            max=1.0,
            help="Share of joints that may not move by half a field cell.",
        ),
    ] = MIN_AGREEMENT,
    engine_file: Annotated[
        Path | None,
        typer.Option(
            "--engine_file",
            "--engine-file",
            help="Build an engine of the graph, too; `tools build-engine` has more options.",
            dir_okay=False,
            rich_help_panel=PANEL,
        ),
    ] = None,
    runtime: RuntimeOption = EngineRuntime.TENSORRT,
    max_batch_size: MaxBatchOption = 8,
    opt_batch_size: OptBatchOption = None,
    max_workspace_size: WorkspaceOption = 2 << 30,
    key: KeyOption = None,
) -> None:
    """Write a network as ONNX, and refuse when it does not find the same joints as before.

    Example: `tools export -m best.keras -o model.onnx -d 288,384,3 --sdk_compatible_model`

    Example: `tools export -m model.onnx -o int8.onnx --data_type int8 --cal_image_dir calibration`

    Example: `tools export -m best.keras --sdk_compatible_model --engine_file model.plan`
    """
    say_that_keys_do_nothing(key)
    if (gate_annotations is None) != (gate_images is None):
        raise typer.BadParameter("expected both or none", param_hint="--gate-annotations/-images")
    calibrating = (cal_image_dir, cal_data_file, cal_cache_file)
    for_int8 = (auto_mixed, unsigned_activations, float_layers, *calibrating)
    if data_type is not DataType.INT8 and any(for_int8):
        raise typer.BadParameter(
            "calibration and layers left in float are for --data_type int8", param_hint=data_type
        )
    if unsigned_activations and engine_file is not None:
        raise typer.BadParameter(
            "TensorRT has signed INT8 only", param_hint="--unsigned_activations"
        )
    if data_type is DataType.FP32 and gate_annotations is not None:
        raise typer.BadParameter("float32 has no gate", param_hint="--gate-annotations")
    engine = None
    if engine_file is not None:
        engine = engine_settings(runtime, max_batch_size, opt_batch_size, max_workspace_size)
        _refuse_what_has_no_engine(engine, model, sdk_compatible_model)
    source = _source(model, input_dims, max_peaks if sdk_compatible_model else None, sample_images)
    out = output_file or _beside(model, data_type)
    if data_type is DataType.FP32:
        _export_float(source, out)
        _build_engine(out, engine_file, engine)
        return
    from bodypose_tools.quantisation.settings import Calibration, Method, OnMiss

    from . import lower_precision as stage

    on_miss = OnMiss.MIX if auto_mixed else OnMiss.REPORT
    gates = stage.Gates(min_agreement, gate_annotations, gate_images, max_ap_drop, on_miss)
    if data_type is DataType.FP16:
        _export_half(source, out, gates)
        _build_engine(out, engine_file, engine)
        return
    calibration = Calibration(
        batches * batch_size, Method(cal_method), cal_image_dir, cal_data_file, cal_cache_file
    )
    made, quantised = stage.export_int8(
        source,
        out,
        calibration,
        gates,
        tuple(float_layers or ()),
        _speak,
        unsigned=unsigned_activations,
    )
    typer.echo(
        f"{made.path}  {made.sha256[:12]}  int8: {quantised.int8_layers} layers INT8,"
        f" {len(quantised.float_layers)} moved to float;"
        f" {'; '.join(str(verdict) for verdict in quantised.verdicts)}"
    )
    _build_engine(out, engine_file, engine)


def _speak(line: str) -> None:
    typer.echo(line, err=True)


def _refuse_what_has_no_engine(
    settings: EngineSettings, model: Path, with_decoding_layers: bool
) -> None:
    """Before the long work: an engine needs the decoding layers, a runtime and perhaps a GPU."""
    from bodypose_tools.engines.build import builder_for
    from bodypose_tools.engines.settings import EngineError

    if model.suffix != ".onnx" and not with_decoding_layers:
        raise EngineError("expected --sdk_compatible_model with --engine_file: engines decode, too")
    builder_for(settings, _speak)


def _build_engine(graph: Path, out: Path | None, settings: EngineSettings | None) -> None:
    if out is None or settings is None:
        return
    from bodypose_tools.engines.build import build_engine

    made = build_engine(graph, out, settings, _speak)
    typer.echo(f"{made.path}  {made.sha256[:12]}  {made.settings['runtime_version']}")


def _beside(model: Path, data_type: DataType) -> Path:
    """`MODEL.onnx`, or `MODEL.int8.onnx`: a float file is never overwritten by default."""
    suffix = ".onnx" if data_type is DataType.FP32 else f".{data_type}.onnx"
    return model.with_suffix(suffix)


def _source(
    model: Path, input_dims: str | None, max_peaks: int | None, sample_images: Path | None
) -> ExportSource:
    network_hw = None if input_dims is None else network_hw_of(input_dims)
    from bodypose_tools.data.photos import images_in, packaged_images

    from .lower_precision import ExportSource

    decode = None
    if max_peaks is not None and model.suffix != ".onnx":
        from bodypose_tools.networks.decoding import DecodeSettings

        decode = DecodeSettings(max_peaks=max_peaks)
    samples = partial(images_in, sample_images) if sample_images else packaged_images
    return ExportSource(model, network_hw, decode, samples)


def _export_float(source: ExportSource, out: Path) -> None:
    from . import onnx_from_keras as stage

    made, difference = stage.export_onnx(
        source.model,
        out,
        network_hw=source.network_hw,
        decode=source.decode,
        samples=source.samples,
    )
    unit = "of a field's value" if source.decode is None else "network pixels"
    typer.echo(
        f"{made.path}  {made.sha256[:12]}  fp32; Keras and ONNX differ by at most"
        f" {difference:.2g} {unit}"
    )


def _export_half(source: ExportSource, out: Path, gates: Gates) -> None:
    from .lower_precision import export_half

    made = export_half(source, out, gates)
    typer.echo(
        f"{made.path}  {made.sha256[:12]}  fp16;"
        f" {made.settings['gates'][0]['value']:.4f} of the joints stay"
    )
