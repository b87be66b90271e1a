"""The commands that build, check and run the model repository."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .cli_options import Precision

if TYPE_CHECKING:
    from .server_command import Outside, Tls
    from .serving_targets import Serving

DEFAULT_REPOSITORY = Path("build/model_repository")


_PORTS: Final = {"min": 0, "max": 65535}


class Target(StrEnum):
    """What will serve the repository; `tools.serving_targets.Target`."""

    EMBEDDED = "embedded"
    CPU = "cpu"
    GPU = "gpu"


class ModelControl(StrEnum):
    """Whether the server follows changes of the repository; `tools.server_command.Updates`."""

    NONE = "none"
    POLL = "poll"


class CpuBackend(StrEnum):
    """Triton's backend of the network with --target cpu."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


def add_commands(app: typer.Typer) -> None:
    app.command()(build_repo)
    app.command()(check_repo)
    app.command()(serve)
    app.command()(demo)


def build_repo(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="ONNX file from `tools export`; plan from `tools build-engine` with --target gpu.",
            show_default="the shipped model",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write.")
    ] = DEFAULT_REPOSITORY,
    target: Annotated[
        Target,
        typer.Option(help="Server that will load it: `tools serve`, or a stock container."),
    ] = Target.EMBEDDED,
    triton_version: Annotated[
        str | None,
        typer.Option(
            "--triton-version",
            "--triton_version",
            metavar="YY.MM",
            help="Release of the container; fields it does not know are left out.",
            show_default="26.07",
        ),
    ] = None,
    network_backend: Annotated[
        CpuBackend, typer.Option(help="Of the network, with --target cpu.")
    ] = CpuBackend.ONNXRUNTIME,
    version: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Add this version to the repository at --output; `tools promote` lets it answer.",
            show_default="a new repository with version 1",
        ),
    ] = None,
    tuning: Annotated[
        Path | None,
        typer.Option(
            help="Settings from `tools tune`, with --target embedded.", show_default="defaults"
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Of the network, with --target embedded; bf16 where the CPU has it.",
            show_default="that of --tuning, or f32",
        ),
    ] = None,
    max_image_bytes: Annotated[
        int | None, typer.Option(min=1, help="Of one encoded image.", show_default="16777216")
    ] = None,
    max_image_pixels: Annotated[
        int | None, typer.Option(min=1, help="Height x width.", show_default="40000000")
    ] = None,
    max_decode_ms: Annotated[
        int | None,
        typer.Option(min=1, help="Time to decode one image, estimated before.", show_default="500"),
    ] = None,
    image_formats: Annotated[
        str | None,
        typer.Option(metavar="NAME[,NAME]...", help="Accepted.", show_default="JPEG,PNG,WebP,BMP"),
    ] = None,
    refresh_configs: Annotated[
        bool,
        typer.Option(
            "--refresh-configs",
            help="Only rewrite the config.pbtxt snapshots in model_repository/.",
        ),
    ] = False,
) -> None:
    """Build the folder that Triton loads from one ONNX file or plan.

    Example: `tools build-repo build/model.onnx -o build/model_repository`

    Example: `tools build-repo build/better.onnx --version 2 -o build/model_repository`

    Example: `tools build-repo build/model.plan --target gpu --triton-version 26.07 -o build/gpu`

    Example: `tools build-repo build/int8.onnx --precision bf16`

    Example: `tools build-repo --max-image-pixels 8000000 --image-formats JPEG,PNG`
    """
    from pose_runtime.spec import PipelineSpec

    from . import repository

    if refresh_configs:
        repository.write_configs(repository.SOURCES, PipelineSpec())
        typer.echo(f"{repository.SOURCES}: config.pbtxt of every model rewritten")
        return
    limits = _limits(max_image_bytes, max_image_pixels, max_decode_ms, image_formats)
    if version is not None:
        if target is not Target.EMBEDDED or triton_version or tuning or precision:
            raise typer.BadParameter(
                "target, release, tuning and precision are those of the repository",
                param_hint="--version",
            )
        from . import versions

        versions.add_version(model or repository.SHIPPED_MODEL, output, version, limits)
        typer.echo(f"{output}  version {version} is there; `tools promote {version}` starts it")
        return
    serving = _serving(target, model, triton_version, network_backend)
    if tuning or precision:
        if target is not Target.EMBEDDED:
            raise typer.BadParameter(
                "is for the embedded server; leave it out",
                param_hint="--tuning" if tuning else "--precision",
            )
        serving = _tuned(tuning, precision)
    record = repository.build_repository(model or repository.SHIPPED_MODEL, output, serving, limits)
    typer.echo(f"{output}  target {target}, files and their sha256 in {record}")
    if target is not Target.EMBEDDED:
        typer.echo(f"for {serving.triton.image}; the line that starts it is in docs/deploying.md")


def _tuned(tuning: Path | None, precision: Precision | None) -> Serving:
    from dataclasses import replace

    from .serving_targets import tuned
    from .tuning import UNTUNED, Tuning

    settings = Tuning.load(tuning) if tuning else UNTUNED
    return tuned(replace(settings, precision=str(precision)) if precision else settings)


def _limits(
    max_bytes: int | None, max_pixels: int | None, max_decode_ms: int | None, formats: str | None
) -> dict[str, Any]:
    """The fields of `ImageLimits` that were given."""
    given: dict[str, Any] = {
        "max_bytes": max_bytes,
        "max_pixels": max_pixels,
        "max_decode_ms": max_decode_ms,
        "formats": None if formats is None else tuple(map(_format_name, formats.split(","))),
    }
    return {name: value for name, value in given.items() if value is not None}


def _format_name(name: str) -> str:
    from pose_runtime.spec import IMAGE_FORMATS

    spelled = {known.lower(): known for known in IMAGE_FORMATS} | {"jpg": "JPEG"}
    return spelled.get(name.strip().lower(), name)


def _serving(
    target: Target, model: Path | None, triton_version: str | None, backend: CpuBackend
) -> Serving:
    from . import serving_targets
    from .triton_versions import RECENT, TritonVersion

    if target is Target.EMBEDDED:
        if triton_version is not None:
            raise typer.BadParameter(
                "the embedded server has one; give it with --target cpu or gpu",
                param_hint="--triton-version",
            )
        return serving_targets.Serving()
    triton = RECENT if triton_version is None else TritonVersion.parse(triton_version)
    if target is Target.CPU:
        return serving_targets.cpu(triton, serving_targets.NetworkBackend(backend))
    if model is None:
        raise typer.BadParameter(
            "expected a plan from `tools build-engine`; none is shipped, because a plan belongs to"
            " one GPU",
            param_hint="MODEL",
        )
    from .plans import serving_of

    return serving_of(model, triton)


def check_repo(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder from `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    triton_version: Annotated[
        str | None,
        typer.Option(
            "--triton-version",
            "--triton_version",
            metavar="YY.MM",
            help="Of the server that will load it.",
            show_default="as it was built for",
        ),
    ] = None,
) -> None:
    """Say what of a repository would not load or not fit together, and why.

    Example: `tools check-repo build/model_repository`
    """
    from . import repository_check
    from .triton_versions import TritonVersion

    triton = None if triton_version is None else TritonVersion.parse(triton_version)
    problems = repository_check.problems_of(repository, triton)
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
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Beyond this machine it takes --tls-cert and --tls-key (only"
            " gRPC listens there) or --insecure (HTTP, too); metrics stay on 127.0.0.1."
        ),
    ] = "127.0.0.1",
    tls_cert: Annotated[Path | None, typer.Option(help="PEM; encrypts gRPC.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM, of --tls-cert.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM; only clients with a certificate of it may come.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everyone who reaches --host in, unencrypted.")
    ] = False,
    model_control_mode: Annotated[
        ModelControl, typer.Option(help="poll: follow `tools promote` while serving.")
    ] = ModelControl.NONE,
) -> None:
    """Run Triton on 127.0.0.1 until Ctrl-C: for development and tests, not for the open network.

    Example: `tools serve build/model_repository --http-port 8000 --model-control-mode poll`

    Example: `tools serve --host 192.0.2.7 --tls-cert server.pem --tls-key server.key`
    """
    from . import repository as built
    from . import server
    from .cpu_runtimes import int8_warning
    from .server_command import Ports, Updates, is_loopback

    outside = _outside(host, _tls(tls_cert, tls_key, tls_client_ca), insecure)
    if changes := built.changes_since_build(repository):
        more = f" (and {len(changes) - 1} more)" if changes[1:] else ""
        raise built.RepositoryError(f"{changes[0]}{more}")
    if (target := built.built_for(repository)["target"]) != Target.EMBEDDED:
        raise built.RepositoryError(
            f"{repository}: expected a repository for the embedded server, got one for {target};"
            " start a container with it, see docs/deploying.md"
        )
    if not is_loopback(host):
        _speak(
            f"warning: {host}: tritonserver 2.51 has published vulnerabilities, two of them rated"
            " 9.8: see docs/security.md, and use a container of 26.07 or newer for anything real"
        )
    if (warning := int8_warning()) and built.is_int8(repository):
        _speak(f"warning: {warning}")
    ports = Ports(http_port, grpc_port, metrics_port)
    starting = server.embedded_server(
        repository, ports, _speak, outside=outside, updates=Updates(model_control_mode)
    )
    with server.until_interrupted(), starting as running:
        typer.echo(f"models   {', '.join(running.models)}")
        typer.echo(f"HTTP     http://{running.http_url}")
        typer.echo(f"gRPC     {running.grpc_url}")
        typer.echo(f"metrics  http://{running.metrics_url}/metrics")
        typer.echo("ready; Ctrl-C stops it")
        running.wait()
    typer.echo("stopped")


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    from .server_command import Tls

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise typer.BadParameter(
            "expected both, and --tls-client-ca only with them", param_hint="--tls-cert, --tls-key"
        )
    return Tls(cert, key, client_ca)


def _outside(host: str, tls: Tls | None, insecure: bool) -> Outside | None:
    """Who may come, when that is not this machine alone without encryption."""
    from .server_command import HOST, Outside, is_loopback

    if not is_loopback(host) and tls is None and not insecure:
        raise typer.BadParameter(
            f"{host} is not loopback: expected --tls-cert and --tls-key, or --insecure to let"
            " everyone in",
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
    from client.formats import DISPLAY_MIN_JOINT

    from .demo import show_people

    shown = show_people(photo, output, say=typer.echo)
    count = len(shown.poses)
    typer.echo(f"{count} {'person' if count == 1 else 'people'} in {shown.request_ms:.0f} ms:")
    for score, keypoints in zip(shown.poses.scores, shown.poses.keypoints, strict=True):
        names = [
            joint
            for joint, found in zip(shown.skeleton.joints, keypoints[:, 2], strict=True)
            if found >= DISPLAY_MIN_JOINT
        ]
        typer.echo(f"  score {score:.2f}: {', '.join(names).replace('_', ' ')}")
    typer.echo(f"drawn in {shown.picture}; the server is stopped")
