"""The option `--check-images`, one for all commands that take annotations."""

from __future__ import annotations

from typing import Annotated

import typer

CheckImagesOption = Annotated[
    bool,
    typer.Option(
        "--check-images",
        help="Decode every image before the work starts; else headers and sizes are checked.",
    ),
]
