"""The `tools soak` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import new_file
from bodypose_tools.repository.settings import DEFAULT_REPOSITORY


def soak(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of load.")] = 60,
    knee: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Largest number of requests a second that the server answers.",
            show_default="measured first, with 8 callers",
        ),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Rate of the load, as a share of --knee.")
    ] = 0.7,
    hostile: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of hostile images, which the server must refuse."),
    ] = 0.05,
    kill_every: Annotated[
        float, typer.Option(min=5, help="Seconds between kills of a Python model.")
    ] = 300,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON to write.", callback=new_file)
    ] = Path("build/soak.json"),
) -> None:
    """Load the embedded server for long, with hostile images and killed models.

    Exit code 1 when an answer was lost, doubled or wrong, or when memory, open files, shared memory
    or zombies have grown.

    Example: `tools soak --minutes 60 --output docs/results/soak.json`
    """
    from .run import run_soak
    from .settings import SoakPlan

    report = run_soak(
        repository,
        output,
        lambda rate: SoakPlan(minutes * 60, rate, hostile, kill_every),
        knee,
        share,
    )
    typer.echo(
        f"{output}  {report['sent']} sent, {report['answered']} answered,"
        f" {report['hostile_refused']} refused as expected, {report['lost']} lost,"
        f" {report['wrong']} wrong, {len(report['kills_at_s'])} kills"
    )
    for problem in report["problems"]:
        typer.echo(problem, err=True)
    if not report["passed"]:
        raise typer.Exit(1)
