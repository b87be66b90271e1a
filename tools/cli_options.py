"""Options that several `tools` commands share, each in one spelling and with one help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KeyOption = Annotated[
    str | None, typer.Option("-k", "--key", help="Accepted for TAO's sake: nothing is encrypted.")
]
AnnotationsOption = Annotated[
    Path, typer.Option("--annotations", "-a", help="COCO keypoints file.", dir_okay=False)
]
ImagesOption = Annotated[
    Path,
    typer.Option("--images", "-i", help="Folder of its images.", exists=True, file_okay=False),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only so many images, from the start.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
]


def say_that_keys_do_nothing(key: str | None) -> None:
    """TAO's habit is harmless here, and said to be."""
    if key is not None:
        typer.echo("-k/--key: nothing is encrypted here, the key is not used", err=True)
