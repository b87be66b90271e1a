"""The command `tools draw-people`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import new_folder


def draw_people(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder to write to.", callback=new_folder),
    ] = Path("build/drawn"),
    num_images: Annotated[
        int,
        typer.Option("-n", "--num-images", min=1, metavar="N", help="Number of pictures."),
    ] = 16,
    random_seed: Annotated[int, typer.Option(min=0, help="Another seed draws other people.")] = 0,
) -> None:
    """Draw pictures of people and their COCO keypoints: a set to try training and evaluation with.

    Example: `tools draw-people -n 16 -o build/drawn`

    A network that is trained on drawn people alone does not find people in photos.
    """
    from .dataset import draw_dataset

    annotations = draw_dataset(output, num_images, seed=random_seed)
    typer.echo(f"{num_images} pictures in {output}, their people in {annotations}")
