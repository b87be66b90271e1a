"""The options of `tools export`, in the groups in which its help shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from bodypose_tools.engines.options import PANEL as ENGINE_PANEL
from bodypose_tools.options import input_dims_option, new_file, old_or_new_file
from bodypose_tools.quantisation.settings import Method

from .settings import DataType

FOR_INT8: Final = "INT8"

# ------------------------------------------------------------------------------------- the graph

ModelOption = Annotated[
    Path,
    typer.Option(
        "-m",
        "--model",
        help="Network to export: a .keras file; for int8 and fp16 also an .onnx file.",
        dir_okay=False,
    ),
]
OutputFileOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output-file",
        help="ONNX file to write.",
        show_default="MODEL.onnx, MODEL.int8.onnx",
        callback=new_file,
    ),
]
InputDimsOption = Annotated[
    str | None,
    input_dims_option(
        "Input size; H and W are multiples of 32 (bodypose-vgg19: of 8).", "as it was trained"
    ),
]
DataTypeOption = Annotated[DataType, typer.Option("--data-type", help="Arithmetic of the graph.")]
DecodingLayersOption = Annotated[
    bool,
    typer.Option(
        "--sdk-compatible-model",
        help="Append the decoding layers, which `tools build-repo` needs.",
    ),
]
MaxPeaksOption = Annotated[
    int,
    typer.Option(
        "--max-peaks", min=1, metavar="N", help="Peaks that the decoding layers keep per joint."
    ),
]
SampleImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--sample-images",
        help="Folder of images on which Keras and ONNX are compared.",
        show_default="a photo that scikit-image ships",
        exists=True,
        file_okay=False,
    ),
]

# ------------------------------------------------------------------------------------------- INT8

CalImageDirOption = Annotated[
    Path | None,
    typer.Option(
        "--cal-image-dir",
        help="Folder of calibration images, from `tools sample-calibration-images`.",
        exists=True,
        file_okay=False,
        rich_help_panel=FOR_INT8,
    ),
]
CalDataFileOption = Annotated[
    Path | None,
    typer.Option(
        "--cal-data-file",
        help="HDF5 file of calibration pixels: read if it exists, else written.",
        callback=old_or_new_file,
        dir_okay=False,
        rich_help_panel=FOR_INT8,
    ),
]
CalCacheFileOption = Annotated[
    Path | None,
    typer.Option(
        "--cal-cache-file",
        help="File of scales in TensorRT's text format: read if it exists, else written.",
        callback=old_or_new_file,
        dir_okay=False,
        rich_help_panel=FOR_INT8,
    ),
]
CalMethodOption = Annotated[
    Method,
    typer.Option(
        "--cal-method",
        metavar="NAME",
        help="How a tensor's range is chosen from its histogram: entropy, percentile or max.",
        rich_help_panel=FOR_INT8,
    ),
]
BatchesOption = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Number of calibration batches.", rich_help_panel=FOR_INT8
    ),
]
BatchSizeOption = Annotated[
    int,
    typer.Option(
        "--batch-size",
        min=1,
        metavar="N",
        help="Images in a calibration batch.",
        rich_help_panel=FOR_INT8,
    ),
]
FloatLayersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--float-layer",
        help="Node to keep in float; can be repeated.",
        rich_help_panel=FOR_INT8,
    ),
]
LayersFromOption = Annotated[
    Path | None,
    typer.Option(
        "--layers-from",
        metavar="RECORD",
        help="Record of an INT8 graph, or of its gate: its layers that stayed in float stay in"
        " float here, too, without a search.",
        dir_okay=False,
        rich_help_panel=FOR_INT8,
    ),
]
UnsignedOption = Annotated[
    bool,
    typer.Option(
        "--unsigned-activations",
        help="Give activations that are never negative the levels 0 to 255. CPUs run such a graph,"
        " TensorRT does not.",
        rich_help_panel=FOR_INT8,
    ),
]
AutoMixedOption = Annotated[
    bool,
    typer.Option(
        "--auto-mixed",
        help="When a gate is missed, keep in float the fewest layers with which it passes.",
        rich_help_panel=FOR_INT8,
    ),
]

# ------------------------------------------------------------------------------------------ gates

GateAnnotationsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--gate-annotations",
        help="COCO file of the AP gate, of which 500 images at most are used; without it only the"
        " joints are compared. Repeated, with --gate-images, the splits are pooled.",
        dir_okay=False,
    ),
]
GateImagesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--gate-images",
        help="Folder of the images, one for each --gate-annotations.",
        exists=True,
        file_okay=False,
    ),
]
MaxApDropOption = Annotated[
    float,
    typer.Option(
        "--max-ap-drop", min=0, metavar="X", help="Largest loss of AP that the gate allows."
    ),
]
MinAgreementOption = Annotated[
    float,
    typer.Option(
        "--min-agreement",
        min=0,
        metavar="X",
        max=1.0,
        help="Share of joints that must stay within half a field cell.",
    ),
]

# ----------------------------------------------------------------------------------------- engine

EngineFileOption = Annotated[
    Path | None,
    typer.Option(
        "--engine-file",
        help="Also build an engine of the graph; `tools build-engine` has more options.",
        callback=new_file,
        dir_okay=False,
        rich_help_panel=ENGINE_PANEL,
    ),
]


def refuse_contradictions(
    data_type: DataType,
    gate: tuple[list[Path] | None, list[Path] | None],
    unsigned: bool,
    with_engine: bool,
    int8_only: tuple[object, ...],
) -> None:
    """Stop before the long work when options do not go together.

    Args:
        data_type: of the graph.
        gate: annotations and images of the AP gate.
        unsigned: whether activations may be unsigned.
        with_engine: whether an engine is to be built.
        int8_only: values of the options that only INT8 has.

    Raises:
        typer.BadParameter: names the option.
    """
    annotations, images = (len(given or ()) for given in gate)
    if annotations != images:
        raise typer.BadParameter(
            f"expected as many of both, got {annotations} and {images}",
            param_hint="--gate-annotations/-images",
        )
    if data_type is not DataType.INT8 and (unsigned or any(int8_only)):
        raise typer.BadParameter(
            "calibration and layers left in float are for --data-type int8", param_hint=data_type
        )
    if unsigned and with_engine:
        raise typer.BadParameter(
            "TensorRT has signed INT8 only", param_hint="--unsigned-activations"
        )
    if data_type is DataType.FP32 and annotations:
        raise typer.BadParameter("float32 has no gate", param_hint="--gate-annotations")
