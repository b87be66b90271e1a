"""The commands for a repository that is served: promote, rollback, soak."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .cli_serving import DEFAULT_REPOSITORY

DEFAULT_URL = "http://127.0.0.1:8000"


def add_commands(app: typer.Typer) -> None:
    """Register these commands on the `tools` app."""
    app.command()(promote)
    app.command()(rollback)
    app.command()(soak)


_SERVER_URL = typer.Option(
    metavar="URL",
    help="HTTP address of the server that serves the folder in poll mode.",
    show_default=f"{DEFAULT_URL} when `tools serve` serves it, else no server",
)


def promote(
    version: Annotated[int, typer.Argument(min=1, help="From `tools build-repo --version`.")],
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder from `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    url: Annotated[str | None, _SERVER_URL] = None,
) -> None:
    """Let another version of a repository answer; a server in poll mode misses no request.

    A version that is damaged, or that the server does not get ready, is refused: the one before
    keeps answering.

    Example: `tools promote 2 build/model_repository --url http://127.0.0.1:8000`
    """
    from . import versions

    versions.promote(repository, version, _ready_at(repository, url))
    typer.echo(f"{repository}  version {version} answers; `tools rollback` goes back")


def rollback(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder from `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    url: Annotated[str | None, _SERVER_URL] = None,
) -> None:
    """Let the version answer that did before the last `tools promote`.

    Example: `tools rollback build/model_repository`
    """
    from . import versions

    version = versions.rollback(repository, _ready_at(repository, url))
    typer.echo(f"{repository}  version {version} answers")


def _ready_at(repository: Path, url: str | None) -> Callable[[str, int], bool] | None:
    """Asks the server that follows the repository; None when there is none."""
    from . import readiness
    from .repository_lock import is_served
    from .triton_wheel import ServerError

    if url is None and not is_served(repository):
        return None
    url = url or DEFAULT_URL
    if not readiness.answers(url):
        raise ServerError(
            f"{url}: expected the server of {repository}, got no answer; give its HTTP address"
            " with --url"
        )
    return partial(readiness.is_ready, url)


def soak(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder from `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60,
    knee: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Requests a second that the server can just answer, from `pose-loadtest run`.",
            show_default="measured first, with 8 callers",
        ),
    ] = None,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Of the knee, to send.")] = 0.7,
    hostile: Annotated[
        float, typer.Option(min=0, max=1, help="Share of images that must be refused.")
    ] = 0.05,
    kill_every: Annotated[
        float, typer.Option(min=5, help="Seconds between kills of a Python model.")
    ] = 300,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON to write.")] = Path(
        "build/soak.json"
    ),
) -> None:
    """Load a server of our own for long, with hostile images and killed models; nothing may go.

    Exit code 1 when an answer was lost, doubled or wrong, or when memory, files, shared memory or
    zombies became more.

    Example: `tools soak --minutes 60 --output docs/results/soak.json`
    """
    from .soak import Plan
    from .soak_run import run_soak

    report = run_soak(
        repository,
        output,
        lambda rate: Plan(minutes * 60, rate, hostile, kill_every),
        knee,
        share,
    )
    typer.echo(
        f"{output}  {report['sent']} sent, {report['answered']} answered,"
        f" {report['hostile_refused']} refused as they should, {report['lost']} lost,"
        f" {report['wrong']} wrong, {len(report['kills_at_s'])} kills"
    )
    for problem in report["problems"]:
        typer.echo(problem, err=True)
    if not report["passed"]:
        raise typer.Exit(1)
