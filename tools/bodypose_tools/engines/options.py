"""Owns the options of an engine, which `tools export` and `tools build-engine` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from .settings import EngineRuntime, EngineSettings

PANEL: Final = "Engine"


RuntimeOption = Annotated[
    EngineRuntime,
    typer.Option(
        "--runtime",
        help="tensorrt-rtx builds without a GPU, as a proof of the graph.",
        rich_help_panel=PANEL,
    ),
]
MaxBatchOption = Annotated[
    int,
    typer.Option(
        "--max_batch_size",
        "--max-batch-size",
        min=1,
        help="Largest that it takes.",
        rich_help_panel=PANEL,
    ),
]
OptBatchOption = Annotated[
    int | None,
    typer.Option(
        "--opt_batch_size",
        "--opt-batch-size",
        min=1,
        help="That it is tuned for.",
        show_default="as --max_batch_size",
        rich_help_panel=PANEL,
    ),
]
WorkspaceOption = Annotated[
    int,
    typer.Option(
        "--max_workspace_size",
        "--max-workspace-size",
        min=1 << 20,
        help="Scratch memory, bytes.",
        rich_help_panel=PANEL,
    ),
]
TimingCacheOption = Annotated[
    Path | None,
    typer.Option(
        "--timing_cache",
        "--timing-cache",
        help="Kernel timings: read if it exists, and written.",
        rich_help_panel=PANEL,
    ),
]
VersionCompatibleOption = Annotated[
    bool,
    typer.Option(
        "--version-compatible",
        help="Runs on newer versions; may be slower.",
        rich_help_panel=PANEL,
    ),
]
HardwareCompatibleOption = Annotated[
    bool,
    typer.Option(
        "--hardware-compatible", help="Runs from Ampere on; may be slower.", rich_help_panel=PANEL
    ),
]


def engine_settings(
    runtime: EngineRuntime,
    max_batch_size: int,
    opt_batch_size: int | None,
    max_workspace_size: int,
    timing_cache: Path | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
) -> EngineSettings:
    from .settings import EngineRuntime, EngineSettings

    return EngineSettings(
        EngineRuntime(runtime),
        max_batch_size,
        opt_batch_size,
        max_workspace_size >> 20,
        timing_cache,
        version_compatible,
        hardware_compatible,
    )
