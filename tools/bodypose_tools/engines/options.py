"""The options of an engine, which `tools export` and `tools build-engine` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from bodypose_tools.options import new_file

from .settings import EngineRuntime

PANEL: Final = "Engine"


RuntimeOption = Annotated[
    EngineRuntime,
    typer.Option(
        "--runtime",
        help="NVIDIA's runtime; tensorrt-rtx builds without a GPU, to prove that the graph parses.",
        rich_help_panel=PANEL,
    ),
]
MaxBatchOption = Annotated[
    int,
    typer.Option(
        "--max-batch-size",
        min=1,
        help="Largest batch that the engine takes.",
        rich_help_panel=PANEL,
    ),
]
OptBatchOption = Annotated[
    int | None,
    typer.Option(
        "--opt-batch-size",
        min=1,
        help="Batch size that TensorRT optimises for.",
        show_default="as --max-batch-size",
        rich_help_panel=PANEL,
    ),
]
WorkspaceOption = Annotated[
    int,
    typer.Option(
        "--max-workspace-size",
        min=1 << 20,
        help="Scratch memory of the engine, in bytes.",
        rich_help_panel=PANEL,
    ),
]
TimingCacheOption = Annotated[
    Path | None,
    typer.Option(
        "--timing-cache",
        help="File of kernel timings: read if it exists, and written.",
        callback=new_file,
        rich_help_panel=PANEL,
    ),
]
VersionCompatibleOption = Annotated[
    bool,
    typer.Option(
        "--version-compatible",
        help="Let newer TensorRT versions load the engine; it may be slower.",
        rich_help_panel=PANEL,
    ),
]
HardwareCompatibleOption = Annotated[
    bool,
    typer.Option(
        "--hardware-compatible",
        help="Let all GPUs from Ampere on load the engine; it may be slower.",
        rich_help_panel=PANEL,
    ),
]
