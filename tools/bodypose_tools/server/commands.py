"""The commands `tools serve`, `demo`, `promote` and `rollback`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from bodypose_tools.options import new_file
from bodypose_tools.repository.settings import DEFAULT_REPOSITORY, ServerTarget
from pose_runtime import __version__

from .settings import DEFAULT_PORTS, DRAIN_S, Outside, Ports, ServerError, ServerTls, Updates

DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORTS.http}"
_SERVER_URL = typer.Option(
    metavar="URL",
    help="HTTP address of the server that serves the folder in poll mode.",
    show_default=f"{DEFAULT_URL} when `tools serve` serves it, else no server",
)
_PORTS: Final = {"min": 0, "max": 65535}


def serve(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    http_port: Annotated[
        int, typer.Option(help="Port of the HTTP endpoint; 0: any free port.", **_PORTS)
    ] = DEFAULT_PORTS.http,
    grpc_port: Annotated[
        int, typer.Option(help="Port of the gRPC endpoint; 0: any free port.", **_PORTS)
    ] = DEFAULT_PORTS.grpc,
    metrics_port: Annotated[
        int, typer.Option(help="Port of the metrics; 0: any free port.", **_PORTS)
    ] = DEFAULT_PORTS.metrics,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Beyond loopback it needs --tls-cert and --tls-key (only"
            " gRPC listens there) or --insecure (HTTP, too); metrics stay on 127.0.0.1."
        ),
    ] = "127.0.0.1",
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM file of the certificate that encrypts gRPC.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the key of --tls-cert.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="PEM file of a CA that must have signed clients' certificates."),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Accept every client that reaches --host, unencrypted."),
    ] = False,
    model_control_mode: Annotated[
        Updates, typer.Option(help="With poll the server follows `tools promote` while it runs.")
    ] = Updates.NONE,
    drain_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="How long SIGTERM lets it go on answering, not ready any more, so that balancers"
            " learn of it; Ctrl-C does not wait.",
        ),
    ] = DRAIN_S,
) -> None:
    """Run Triton on 127.0.0.1 until Ctrl-C, for development and tests.

    Example: `tools serve build/model_repository --http-port 8000 --model-control-mode poll`

    Example: `tools serve --host 192.0.2.7 --tls-cert server.pem --tls-key server.key`
    """
    from bodypose_tools.repository import build as built
    from bodypose_tools.runtimes.cpu import int8_warning

    from . import embedded as server
    from .command import is_loopback

    outside = _outside(host, _tls(tls_cert, tls_key, tls_client_ca), insecure)
    if changes := built.changes_since_build(repository):
        more = f" (and {len(changes) - 1} more)" if changes[1:] else ""
        raise built.RepositoryError(f"{changes[0]}{more}")
    if (target := built.built_for(repository)["target"]) != ServerTarget.EMBEDDED:
        raise built.RepositoryError(
            f"{repository}: expected a repository for the embedded server, got one for {target};"
            " start a container with it, see docs/deploying.md"
        )
    if not is_loopback(host):
        _speak(
            f"warning: {host}: tritonserver 2.51 has published vulnerabilities, two of them rated"
            " 9.8: see docs/security.md, and use a container of 26.07 or newer for anything real"
        )
    if (release := built.built_by(repository)) != __version__:
        _speak(built.another_release(repository, release))
    if (warning := int8_warning()) and built.is_int8(repository):
        _speak(f"warning: {warning}")
    ports = Ports(http_port, grpc_port, metrics_port)
    starting = server.embedded_server(
        repository,
        ports,
        _speak,
        outside=outside,
        updates=model_control_mode,
        drain_s=drain_seconds,
    )
    with server.until_interrupted(), starting as running:
        typer.echo(f"models   {', '.join(running.models)}")
        typer.echo(f"HTTP     http://{running.http_url}")
        typer.echo(f"gRPC     {running.grpc_url}")
        typer.echo(f"metrics  http://{running.metrics_url}/metrics")
        typer.echo("ready; Ctrl-C stops it")
        running.wait()
    typer.echo("stopped")


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> ServerTls | None:
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise typer.BadParameter(
            "expected both, and --tls-client-ca only with them", param_hint="--tls-cert, --tls-key"
        )
    return ServerTls(cert, key, client_ca)


def _outside(host: str, tls: ServerTls | None, insecure: bool) -> Outside | None:
    """The address beyond plain loopback; None on loopback without encryption."""
    from .command import HOST, is_loopback

    if not is_loopback(host) and tls is None and not insecure:
        raise typer.BadParameter(
            f"{host} is not loopback: expected --tls-cert and --tls-key, or --insecure to"
            " accept every client",
            param_hint="--host",
        )
    if tls and insecure:
        raise typer.BadParameter("expected one of TLS and --insecure", param_hint="--insecure")
    return None if host == HOST and tls is None else Outside(host, tls)


def _speak(line: str) -> None:
    typer.echo(line, err=True)


def demo(
    photo: Annotated[
        Path | None,
        typer.Argument(
            metavar="PHOTO",
            help="Photo in JPEG, PNG, WebP or BMP.",
            show_default="a drawn scene",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture to write.", callback=new_file)
    ] = Path("build/demo.png"),
) -> None:
    """Serve the shipped model for one photo, and draw the people found in it.

    Example: `tools demo photo.jpg -o people.png`
    """
    from .demo import show_people

    shown = show_people(photo, output, say=typer.echo)
    count = len(shown.poses)
    typer.echo(f"{count} {'person' if count == 1 else 'people'} in {shown.request_ms:.0f} ms:")
    for score, found in zip(shown.poses.scores, shown.poses.found, strict=True):
        names = ", ".join(itertools.compress(shown.skeleton.joints, found)).replace("_", " ")
        typer.echo(f"  score {score:.2f}: {f'all {len(found)} joints' if found.all() else names}")
    typer.echo(f"drawn in {shown.picture}; the server is stopped")


def promote(
    version: Annotated[
        int, typer.Argument(min=1, help="Version to answer, from `tools build-repo --version`.")
    ],
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    url: Annotated[str | None, _SERVER_URL] = None,
) -> None:
    """Let another version of a repository answer; a server in poll mode loses no request.

    A version that is damaged, or that the server does not load, is refused, and the version before
    keeps answering.

    Example: `tools promote 2 build/model_repository --url http://127.0.0.1:8000`
    """
    from bodypose_tools.repository import versions

    versions.promote(repository, version, _ready_at(repository, url))
    typer.echo(f"{repository}  version {version} answers; `tools rollback` goes back")


def rollback(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    url: Annotated[str | None, _SERVER_URL] = None,
) -> None:
    """Let the version answer that answered before the last `tools promote`.

    Example: `tools rollback build/model_repository`
    """
    from bodypose_tools.repository import versions

    version = versions.rollback(repository, _ready_at(repository, url))
    typer.echo(f"{repository}  version {version} answers")


def _ready_at(repository: Path, url: str | None) -> Callable[[str, int], bool] | None:
    """A function that asks the server of the repository for a version; None without a server."""
    from bodypose_tools.repository.lock import is_served

    from . import readiness

    if url is None and not is_served(repository):
        return None
    url = url or DEFAULT_URL
    if not readiness.answers(url):
        raise ServerError(
            f"{url}: expected the server of {repository}, got no answer; give its HTTP address"
            " with --url"
        )
    return partial(readiness.is_ready, url)
