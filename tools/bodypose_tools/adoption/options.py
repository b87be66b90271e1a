"""The options of `tools adopt`, in the groups in which its help shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from bodypose_tools.options import input_dims_option, new_file

from .settings import Background, Colours, Direction, FieldOrder, Layout, PresetName

_INPUT: Final = "Input"
_OUTPUTS: Final = "Outputs"

NetworkArgument = Annotated[
    Path,
    typer.Argument(
        metavar="NET.onnx",
        help="Network with heatmaps and part affinity fields, an ONNX file.",
        dir_okay=False,
    ),
]
OutputOption = Annotated[
    Path,
    typer.Option("-o", "--output", help="ONNX file to write.", callback=new_file, dir_okay=False),
]
PresetOption = Annotated[
    PresetName | None,
    typer.Option(
        help="Project whose conventions the network has; options change single ones.",
    ),
]
MaxPeaksOption = Annotated[
    int, typer.Option("--max-peaks", min=1, metavar="N", help="Peaks kept per joint.")
]
SampleImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--sample-images",
        help="Folder of photos of people, on which the channels are checked.",
        show_default="drawn scenes",
        exists=True,
        file_okay=False,
    ),
]

CheckAnnotationsOption = Annotated[
    Path | None,
    typer.Option(
        "--check-annotations",
        metavar="FILE",
        help="COCO keypoint annotations; the options that fit them best are printed.",
        dir_okay=False,
    ),
]
LabelledImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the images of --check-annotations.",
        exists=True,
        file_okay=False,
    ),
]
CheckLimitOption = Annotated[
    int, typer.Option("--limit", min=1, metavar="N", help="Labelled images that are used.")
]

# ------------------------------------------------------------------------------------------- input

InputOption = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="NAME",
        help="Tensor that gets the image.",
        show_default="the only one",
        rich_help_panel=_INPUT,
    ),
]
InputDimsOption = Annotated[
    str | None,
    input_dims_option(
        "Input size, where the graph leaves it open; H and W are multiples of 8.",
        "the graph's",
        _INPUT,
    ),
]
InputLayoutOption = Annotated[
    Layout | None,
    typer.Option(
        "--input-layout",
        help="Order of the image's axes.",
        show_default="by its shape",
        rich_help_panel=_INPUT,
    ),
]
ColoursOption = Annotated[
    Colours | None,
    typer.Option(help="Order of the image's channels.", rich_help_panel=_INPUT),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        metavar="X|X,Y,Z",
        help="Mean that is subtracted from pixels 0..255: one, or one for each channel.",
        rich_help_panel=_INPUT,
    ),
]
StdOption = Annotated[
    str | None,
    typer.Option(
        metavar="X|X,Y,Z",
        help="Number that the difference is divided by: one, or one for each channel.",
        rich_help_panel=_INPUT,
    ),
]

# ----------------------------------------------------------------------------------------- outputs

HeatmapsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Tensor of the heatmaps, an output or inside the graph.",
        show_default="by its channels",
        rich_help_panel=_OUTPUTS,
    ),
]
AffinityOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Tensor of the part affinity fields.",
        show_default="by its channels",
        rich_help_panel=_OUTPUTS,
    ),
]
OutputLayoutOption = Annotated[
    Layout | None,
    typer.Option(
        "--output-layout",
        help="Order of the fields' axes.",
        show_default="by their shapes",
        rich_help_panel=_OUTPUTS,
    ),
]
BackgroundOption = Annotated[
    Background | None,
    typer.Option(
        help="Where the heatmaps have a channel for the background.", rich_help_panel=_OUTPUTS
    ),
]
JointChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--joint-channels",
        metavar="N,N,...",
        help="Heatmap channel of each joint, in the skeleton's order.",
        rich_help_panel=_OUTPUTS,
    ),
]
FieldChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--field-channels",
        metavar="N,N,...",
        help="Field channels of x and y of each limb, in the skeleton's order.",
        rich_help_panel=_OUTPUTS,
    ),
]
FieldOrderOption = Annotated[
    FieldOrder | None,
    typer.Option(
        "--field-order",
        help="Component that comes first in a limb's two channels.",
        show_default="xy",
        rich_help_panel=_OUTPUTS,
    ),
]
DirectionOption = Annotated[
    Direction | None,
    typer.Option(
        help="Whether fields point from a limb's first joint to its second, or back.",
        show_default="forwards",
        rich_help_panel=_OUTPUTS,
    ),
]
BackwardsOption = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,...",
        help="Limbs, counted from 0, whose fields point against --direction.",
        rich_help_panel=_OUTPUTS,
    ),
]
CentreOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Tensor of person centres, which networks of `tools train` have.",
        rich_help_panel=_OUTPUTS,
    ),
]
OffsetsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Tensor of the joints' offsets from person centres.",
        rich_help_panel=_OUTPUTS,
    ),
]


def one_or_three(text: str | None, option: str) -> tuple[float, ...] | None:
    """One number, or one for each channel; None stays None.

    Raises:
        typer.BadParameter: neither, or 0 as a divisor.
    """
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    finite = all(abs(number) < 1e6 for number in numbers)
    if len(numbers) not in (1, 3) or not finite or (option == "--std" and min(numbers) <= 0):
        raise typer.BadParameter(
            f"expected one number or three{' above 0' if option == '--std' else ''}, got {text}",
            param_hint=option,
        )
    return numbers


def integers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Integers separated by commas; None stays None.

    Raises:
        typer.BadParameter: something else.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"expected integers separated by commas, got {text}", param_hint=option
        ) from None
