"""The command `tools deploy-files`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import new_folder
from bodypose_tools.repository.settings import DEFAULT_REPOSITORY

from .settings import DEFAULT_FOLDER, REQUESTS_PER_S, Access


def deploy_files(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write.", callback=new_folder)
    ] = DEFAULT_FOLDER,
    image: Annotated[
        str,
        typer.Option(metavar="NAME", help="Repository of the server's image, without a tag."),
    ] = "bodypose-triton",
    models_image: Annotated[
        str,
        typer.Option(
            metavar="NAME@sha256:...",
            help="Image of the models by its digest, from Containerfile.models.",
            show_default="to be filled in",
        ),
    ] = "",
    gpu_resource: Annotated[
        str,
        typer.Option(metavar="NAME", help="Kubernetes' name of a GPU, or of a slice of one."),
    ] = "nvidia.com/gpu",
    server: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST[:PORTS]",
            help="Server behind the gateway, such as 10.0.0.1:8000:8001 (HTTP, gRPC); give it once"
            " for each.",
            show_default="127.0.0.1, or the servers of compose.yaml",
        ),
    ] = None,
    access: Annotated[
        Access,
        typer.Option(
            help="Who may ask through the gateway: callers with a token, over TLS; or, in a network"
            " that is trusted, everybody.",
        ),
    ] = Access.TOKEN,
    requests_per_s: Annotated[
        int,
        typer.Option(
            "--requests-per-second",
            min=1,
            max=10000,
            help="Requests of one token through one gateway; twice as many at once.",
        ),
    ] = REQUESTS_PER_S,
) -> None:
    """Write what a repository is deployed with: images, Helm chart, KServe, compose, gateway.

    For the embedded server: the gateway, a systemd unit and Prometheus rules of one host.

    Example: `tools deploy-files build/gpu -o build/deploy --image registry.example/bodypose`

    Example: `tools deploy-files --server 10.0.0.1 --server 10.0.0.2`
    """
    from .files import write_deploy_files
    from .values import Deployment, Server

    servers = tuple(map(Server.parse, server or ()))
    deployment = Deployment(image, models_image, gpu_resource, servers, access, requests_per_s)
    for path in write_deploy_files(repository, output, deployment):
        typer.echo(path)
    typer.echo("docs/fleet.md says in which order to use them")
