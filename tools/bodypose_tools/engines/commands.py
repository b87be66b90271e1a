"""The command `tools build-engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import new_file

from .options import (
    HardwareCompatibleOption,
    MaxBatchOption,
    OptBatchOption,
    RuntimeOption,
    TimingCacheOption,
    VersionCompatibleOption,
    WorkspaceOption,
)
from .settings import EngineRuntime, EngineSettings


def build_engine(
    model: Annotated[
        Path, typer.Argument(help="ONNX file from `tools export`.", exists=True, dir_okay=False)
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Engine file to write.", callback=new_file),
    ] = Path("build/model.plan"),
    runtime: RuntimeOption = EngineRuntime.TENSORRT,
    max_batch_size: MaxBatchOption = 8,
    opt_batch_size: OptBatchOption = None,
    max_workspace_size: WorkspaceOption = 2 << 30,
    timing_cache: TimingCacheOption = None,
    version_compatible: VersionCompatibleOption = False,
    hardware_compatible: HardwareCompatibleOption = False,
) -> None:
    """Build a TensorRT engine in the precision of the ONNX graph.

    Example: `tools build-engine int8.onnx -o model.plan --max-batch-size 8`
    """
    from . import build as stage

    settings = EngineSettings(
        runtime,
        max_batch_size,
        opt_batch_size,
        max_workspace_size >> 20,
        timing_cache,
        version_compatible,
        hardware_compatible,
    )
    made = stage.build_engine(model, output, settings, lambda line: typer.echo(line, err=True))
    typer.echo(f"{made.path}  {made.sha256[:12]}  {made.settings['runtime_version']}")
