"""The command `tools starter-files`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_client.files.outputs import new_folder


def starter_files(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder to write specs/ and models/ into.",
            callback=new_folder,
        ),
    ] = Path(),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that differ from the shipped ones.")
    ] = False,
) -> None:
    """Copy what is shipped to start from: specs to edit, Keras models to prune and retrain.

    Example: `tools starter-files -o .`
    """
    from .shipped import copy_starters

    for path in copy_starters(output, overwrite):
        typer.echo(path)
