"""The commands that build, check and run the model repository."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_REPOSITORY = Path("build/model_repository")


_PORTS: Final = {"min": 0, "max": 65535}


class Target(StrEnum):
    """What will serve the repository."""

    EMBEDDED = "embedded"


def add_commands(app: typer.Typer) -> None:
    app.command()(build_repo)
    app.command()(check_repo)
    app.command()(serve)
    app.command()(demo)


def build_repo(
    model: Annotated[
        Path | None,
        typer.Argument(help="ONNX file from `tools export`.", show_default="the shipped model"),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write.")
    ] = DEFAULT_REPOSITORY,
    target: Annotated[
        Target, typer.Option(help="Server that will load it; others are not built yet.")
    ] = Target.EMBEDDED,
    refresh_configs: Annotated[
        bool,
        typer.Option(
            "--refresh-configs",
            help="Only rewrite the config.pbtxt snapshots in model_repository/.",
        ),
    ] = False,
) -> None:
    """Build the folder that Triton loads from one ONNX file.

    Example: `tools build-repo build/model.onnx -o build/model_repository`
    """
    from pose_runtime.spec import PipelineSpec

    from . import repository

    if refresh_configs:
        repository.write_configs(repository.SOURCES, PipelineSpec())
        typer.echo(f"{repository.SOURCES}: config.pbtxt of every model rewritten")
        return
    record = repository.build_repository(model or repository.SHIPPED_MODEL, output)
    typer.echo(f"{output}  target {target}, files and their sha256 in {record}")


def check_repo(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder from `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
) -> None:
    """Say what of a repository would not load or not fit together, and why.

    Example: `tools check-repo build/model_repository`
    """
    from . import repository_check

    problems = repository_check.problems_of(repository)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{repository}  OK")


def serve(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder from `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    http_port: Annotated[int, typer.Option(help="HTTP; 0: any free port.", **_PORTS)] = 8000,
    grpc_port: Annotated[int, typer.Option(help="gRPC; 0: any free port.", **_PORTS)] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Metrics; 0: any free port.", **_PORTS)] = 8002,
) -> None:
    """Run Triton on 127.0.0.1 until Ctrl-C: for development and tests, not for the open network.

    Example: `tools serve build/model_repository --http-port 8000`
    """
    from . import repository as built
    from . import server

    if changes := built.changes_since_build(repository):
        more = f" (and {len(changes) - 1} more)" if changes[1:] else ""
        raise built.RepositoryError(f"{changes[0]}{more}")
    ports = server.Ports(http_port, grpc_port, metrics_port)
    with (
        server.until_interrupted(),
        server.embedded_server(repository, ports, report=_speak) as running,
    ):
        typer.echo(f"models   {', '.join(running.models)}")
        typer.echo(f"HTTP     http://{running.http_url}")
        typer.echo(f"gRPC     {running.grpc_url}")
        typer.echo(f"metrics  http://{running.metrics_url}/metrics")
        typer.echo("ready; Ctrl-C stops it")
        running.wait()
    typer.echo("stopped")


def _speak(line: str) -> None:
    typer.echo(line, err=True)


def demo(
    photo: Annotated[
        Path | None,
        typer.Argument(
            metavar="PHOTO",
            help="JPEG, PNG, WebP or BMP.",
            show_default="an astronaut from scikit-image",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")] = Path(
        "build/demo.png"
    ),
) -> None:
    """Serve the shipped model for one photo, and draw the people found in it.

    Example: `tools demo photo.jpg -o people.png`
    """
    from .demo import show_people

    shown = show_people(photo, output, say=typer.echo)
    count = len(shown.poses)
    typer.echo(f"{count} {'person' if count == 1 else 'people'} in {shown.request_ms:.0f} ms:")
    for score, keypoints in zip(shown.poses.scores, shown.poses.keypoints, strict=True):
        names = [
            joint
            for joint, found in zip(shown.skeleton.joints, keypoints[:, 2] > 0, strict=True)
            if found
        ]
        typer.echo(f"  score {score:.2f}: {', '.join(names).replace('_', ' ')}")
    typer.echo(f"drawn in {shown.picture}; the server is stopped")
