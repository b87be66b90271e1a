"""The `tools export` command: a network becomes an ONNX graph in the arithmetic asked for."""

from __future__ import annotations

import typer

from bodypose_tools.engines.options import (
    MaxBatchOption,
    OptBatchOption,
    RuntimeOption,
    WorkspaceOption,
)
from bodypose_tools.engines.settings import EngineRuntime, EngineSettings
from bodypose_tools.options import CheckImagesOption, network_hw_of
from bodypose_tools.quantisation.settings import (
    MAX_AP_DROP,
    MAX_SPLIT_IMAGES,
    MIN_AGREEMENT,
    Calibration,
    Method,
    OnMiss,
)

from . import options
from .settings import DataType, Int8Settings


def export(
    model: options.ModelOption,
    output_file: options.OutputFileOption = None,
    input_dims: options.InputDimsOption = None,
    data_type: options.DataTypeOption = DataType.FP32,
    sdk_compatible_model: options.DecodingLayersOption = False,
    max_peaks: options.MaxPeaksOption = 20,
    sample_images: options.SampleImagesOption = None,
    cal_image_dir: options.CalImageDirOption = None,
    cal_data_file: options.CalDataFileOption = None,
    cal_cache_file: options.CalCacheFileOption = None,
    cal_method: options.CalMethodOption = Method.PERCENTILE,
    batches: options.BatchesOption = 64,
    batch_size: options.BatchSizeOption = 8,
    float_layers: options.FloatLayersOption = None,
    layers_from: options.LayersFromOption = None,
    unsigned_activations: options.UnsignedOption = False,
    auto_mixed: options.AutoMixedOption = False,
    gate_annotations: options.GateAnnotationsOption = None,
    gate_images: options.GateImagesOption = None,
    check_images: CheckImagesOption = False,
    max_ap_drop: options.MaxApDropOption = MAX_AP_DROP,
    min_agreement: options.MinAgreementOption = MIN_AGREEMENT,
    engine_file: options.EngineFileOption = None,
    runtime: RuntimeOption = EngineRuntime.TENSORRT,
    max_batch_size: MaxBatchOption = 8,
    opt_batch_size: OptBatchOption = None,
    max_workspace_size: WorkspaceOption = 2 << 30,
) -> None:
    """Write a network as ONNX, and refuse when it does not find the same joints as before.

    Example: `tools export -m best.keras -o model.onnx -d 288,384,3 --sdk-compatible-model`

    Example: `tools export -m model.onnx -o int8.onnx --data-type int8 --cal-image-dir calibration`

    Example: `tools export -m best.keras --sdk-compatible-model --engine-file model.plan`

    An INT8 graph again, from its record and the same images: `tools export -m model.onnx
    --data-type int8 --cal-image-dir calibration --layers-from int8.onnx.json`
    """
    options.refuse_contradictions(
        data_type,
        (gate_annotations, gate_images),
        unsigned_activations,
        engine_file is not None,
        int8_only=(
            auto_mixed,
            float_layers,
            layers_from,
            cal_image_dir,
            cal_data_file,
            cal_cache_file,
        ),
    )
    network_hw = None if input_dims is None else network_hw_of(input_dims)
    engine = EngineSettings(runtime, max_batch_size, opt_batch_size, max_workspace_size >> 20)

    from bodypose_client.image_check import check_split
    from bodypose_tools.evaluation.offline import splits_of

    from . import run as stage
    from .lower_precision import Gates, float_layers_in
    from .source import ExportSource

    splits = splits_of(gate_annotations or (), gate_images or (), MAX_SPLIT_IMAGES)
    for split in splits:
        check_split(split.annotations, split.images, decode=check_images)
    decoded_peaks = max_peaks if sdk_compatible_model else None
    source = ExportSource.open(model, network_hw, decoded_peaks, sample_images)
    if engine_file is not None:
        stage.refuse_what_has_no_engine(source, engine, _speak)
    on_miss = OnMiss.MIX if auto_mixed else OnMiss.REPORT
    gates = Gates(min_agreement, splits, max_ap_drop, on_miss)
    calibration = Calibration(
        batches * batch_size, cal_method, cal_image_dir, cal_data_file, cal_cache_file
    )
    kept = () if layers_from is None else float_layers_in(layers_from)
    int8 = Int8Settings(calibration, (*kept, *(float_layers or ())), unsigned_activations)
    out = output_file or source.default_output(data_type)
    made, summary = stage.export_graph(source, out, data_type, gates, int8, _speak)
    typer.echo(f"{made.path}  {made.sha256[:12]}  {summary}")
    if engine_file is not None:
        from bodypose_tools.engines.build import build_engine

        plan = build_engine(out, engine_file, engine, _speak)
        typer.echo(f"{plan.path}  {plan.sha256[:12]}  {plan.settings['runtime_version']}")


def _speak(line: str) -> None:
    typer.echo(line, err=True)
