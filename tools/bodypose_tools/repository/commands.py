"""The commands `tools build-repo` and `tools check-repo`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodypose_tools.files.settings import ShippedModel
from bodypose_tools.files.shipped import MODEL_SOURCES, float_graph
from bodypose_tools.runtimes.settings import Device

from .settings import DEFAULT_REPOSITORY, NetworkBackend, NetworkPrecision, ServerTarget

if TYPE_CHECKING:
    from .choice import Choice
    from .targets import Serving
    from .tuning import Tuning


def _in_a_container(backend: NetworkBackend) -> NetworkBackend:
    """Check that `--target cpu` has this backend."""
    if backend not in (NetworkBackend.ONNXRUNTIME, NetworkBackend.OPENVINO):
        raise typer.BadParameter(f"expected onnxruntime or openvino, got {backend}")
    return backend


def build_repo(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="ONNX file of `tools export`; with --target gpu a plan of `tools build-engine`.",
            show_default="the shipped --model",
        ),
    ] = None,
    model: Annotated[
        ShippedModel | None,
        typer.Option(
            help="Shipped model, in the place of a file: the accurate or the fast one.",
            show_default=ShippedModel.BODYPOSE_S,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write.")
    ] = DEFAULT_REPOSITORY,
    target: Annotated[
        ServerTarget,
        typer.Option(help="Server for the repository: `tools serve`, or a stock container."),
    ] = ServerTarget.EMBEDDED,
    triton_version: Annotated[
        str | None,
        typer.Option(
            "--triton-version",
            metavar="YY.MM",
            help="Release of the container; config fields that it does not know are left out.",
            show_default="26.07",
        ),
    ] = None,
    network_backend: Annotated[
        NetworkBackend,
        typer.Option(
            callback=_in_a_container,
            help="Triton backend of the network with --target cpu: onnxruntime or openvino.",
            metavar="NAME",
        ),
    ] = NetworkBackend.ONNXRUNTIME,
    version: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Version to add to the repository at --output; `tools promote` lets it answer.",
            show_default="a new repository with version 1",
        ),
    ] = None,
    tuning: Annotated[
        Path | None,
        typer.Option(
            help="Settings of `tools tune`, of a server of this --target.", show_default="defaults"
        ),
    ] = None,
    precision: Annotated[
        NetworkPrecision | None,
        typer.Option(
            help="Arithmetic of the network: f32 or bf16 on a CPU, f16 or f32 on a GPU; of a"
            " shipped model also int8, or auto, which takes what this CPU runs best.",
            show_default="auto for a shipped model on this CPU, else that of --tuning, f32 on a"
            " CPU, f16 on a GPU",
        ),
    ] = None,
    device: Annotated[
        Device | None,
        typer.Option(
            help="Processor of the network; cuda is an NVIDIA GPU without TensorRT.",
            show_default="that of --tuning, or cpu",
        ),
    ] = None,
    preprocess: Annotated[
        Device | None,
        typer.Option(
            help="Processor that decodes JPEGs; cuda is the GPU's own decoder (A100, H100 and"
            " newer), with --device cuda.",
            show_default="that of --tuning, or cpu",
        ),
    ] = None,
    gpus: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="GPUs of the server: each gets instances of its own of every step."
        ),
    ] = 1,
    max_image_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="Largest encoded image, in bytes.", show_default="16777216"),
    ] = None,
    max_image_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Largest image, as height x width.", show_default="40000000"),
    ] = None,
    max_decode_ms: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Longest time to decode one image, estimated from its header.",
            show_default="500",
        ),
    ] = None,
    image_formats: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME]...",
            help="Accepted image formats.",
            show_default="JPEG,PNG,WebP,BMP",
        ),
    ] = None,
    refresh_configs: Annotated[
        bool,
        typer.Option(
            "--refresh-configs",
            help="Rewrite the config.pbtxt snapshots in model_repository/, and nothing else.",
        ),
    ] = False,
) -> None:
    """Build the folder that Triton loads from a shipped model, an ONNX file or a plan.

    Example: `tools build-repo --model bodypose-xs --precision auto`

    Example: `tools build-repo build/model.onnx -o build/model_repository`

    Example: `tools build-repo build/better.onnx --version 2 -o build/model_repository`

    Example: `tools build-repo build/model.plan --target gpu --triton-version 26.07 -o build/gpu`

    Example: `tools build-repo build/int8.onnx --precision bf16`

    Example: `tools build-repo --device cuda`

    Example: `tools build-repo --device cuda --preprocess cuda --gpus 2`

    Example: `tools build-repo build/model.plan --device cuda`

    Example: `tools build-repo --max-image-pixels 8000000 --image-formats JPEG,PNG`
    """
    from pose_runtime.spec import PipelineSpec

    from . import build as repository

    if refresh_configs:
        repository.write_configs(MODEL_SOURCES, PipelineSpec())
        typer.echo(f"{MODEL_SOURCES}: config.pbtxt of every model rewritten")
        return
    limits = _limits(max_image_bytes, max_image_pixels, max_decode_ms, image_formats)
    if file is not None and model is not None:
        raise typer.BadParameter(
            "expected a file or a shipped model, got both", param_hint="--model"
        )
    shipped = model or ShippedModel.BODYPOSE_S
    if version is not None:
        if (
            target is not ServerTarget.EMBEDDED
            or triton_version
            or tuning
            or precision
            or preprocess
        ):
            raise typer.BadParameter(
                "expected no target, release, tuning or precision: the repository has them",
                param_hint="--version",
            )
        from . import versions

        versions.add_version(file or float_graph(shipped), output, version, limits)
        typer.echo(f"{output}  version {version} is there; `tools promote {version}` starts it")
        return
    settings = _settings(tuning, device, preprocess).on_gpus(gpus)
    chosen = None
    if file is None and target is ServerTarget.EMBEDDED and settings.device == Device.CPU:
        # What `tools tune` measured counts more than what a CPU usually runs best.
        tuned = NetworkPrecision(settings.precision) if tuning else NetworkPrecision.AUTO
        chosen = _chosen(shipped, precision or tuned)
    elif precision in (NetworkPrecision.AUTO, NetworkPrecision.INT8):
        raise typer.BadParameter(
            f"expected another than {precision}, which is for a shipped model on the embedded"
            " server's CPU; the graph of a file says itself where INT8 is",
            param_hint="--precision",
        )
    if arithmetic := chosen.precision if chosen else precision:
        settings = replace(settings, precision=str(arithmetic))
    serving = _serving(target, file, triton_version, network_backend, settings)
    if precision and serving.backend is not NetworkBackend.PYTHON:
        raise typer.BadParameter(
            "expected a network that model.py runs; the backends of --target cpu and plans have no"
            " such setting",
            param_hint="--precision",
        )
    if target is ServerTarget.CPU and settings.device != Device.CPU:
        raise typer.BadParameter(
            f"expected settings for a CPU with --target cpu, got some for {settings.device}",
            param_hint="--tuning" if tuning else "--device",
        )
    graph = file or (chosen.graph if chosen else float_graph(shipped))
    record = repository.build_repository(graph, output, serving, limits)
    typer.echo(f"{output}  target {target}, files and their sha256 in {record}")
    if chosen:
        typer.echo(f"network: {chosen}")
    if target is not ServerTarget.EMBEDDED:
        typer.echo(
            f"for {serving.triton.image}; `tools deploy-files {output}` writes what starts it"
        )


def _chosen(model: ShippedModel, precision: NetworkPrecision) -> Choice:
    from bodypose_tools.runtimes.cpu import cpu_flags

    from .choice import choose

    if precision is NetworkPrecision.F16:
        raise typer.BadParameter("expected --device cuda with f16", param_hint="--precision")
    return choose(model, precision, cpu_flags())


def _settings(
    tuning: Path | None,
    device: Device | None,
    preprocess: Device | None,
) -> Tuning:
    """Those of the file, or the defaults of the device."""
    from .tuning import UNTUNED, UNTUNED_CUDA, UNTUNED_CUDA_DECODING, Tuning

    if tuning:
        settings = Tuning.load(tuning)
        if device is not None and device != settings.device:
            raise typer.BadParameter(
                f"expected the device of {tuning}, {settings.device}, got {device}",
                param_hint="--device",
            )
    else:
        settings = UNTUNED_CUDA if device is Device.CUDA else UNTUNED
        if preprocess is Device.CUDA and device is Device.CUDA:
            settings = UNTUNED_CUDA_DECODING
    if preprocess is Device.CUDA and settings.device != Device.CUDA:
        raise typer.BadParameter(
            "expected --device cuda with it: pixels stay on the GPU until the network has read"
            " them",
            param_hint="--preprocess",
        )
    if preprocess is not None:
        settings = replace(settings, decodes_on=str(preprocess))
    return settings


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
    target: ServerTarget,
    model: Path | None,
    triton_version: str | None,
    backend: NetworkBackend,
    tuning: Tuning,
) -> Serving:
    from . import targets as serving_targets
    from .releases import RECENT, TritonVersion
    from .tuning import UNTUNED_CUDA

    if target is ServerTarget.EMBEDDED:
        if triton_version is not None:
            raise typer.BadParameter(
                "expected --target cpu or gpu with it: the embedded server has one release",
                param_hint="--triton-version",
            )
        if model and model.suffix == ".plan" and tuning.device == Device.CUDA:
            from .plans import serving_in_python

            return serving_in_python(model, tuning)
        return serving_targets.tuned(tuning)
    triton = RECENT if triton_version is None else TritonVersion.parse(triton_version)
    if target is ServerTarget.CPU:
        return serving_targets.cpu(triton, backend, tuning)
    if model is None or model.suffix == ".onnx":
        on_gpu = tuning if tuning.device == Device.CUDA else UNTUNED_CUDA
        return serving_targets.cuda_in_container(triton, on_gpu)
    from .plans import serving_of_plan

    return serving_of_plan(model, triton, tuning)


def check_repo(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of `tools build-repo`.")
    ] = DEFAULT_REPOSITORY,
    triton_version: Annotated[
        str | None,
        typer.Option(
            "--triton-version",
            metavar="YY.MM",
            help="Release of the server that will load it.",
            show_default="as it was built for",
        ),
    ] = None,
) -> None:
    """Check whether a repository will load, and say for each problem what to run.

    Example: `tools check-repo build/model_repository`
    """
    from pose_runtime import __version__

    from . import check as repository_check
    from .build import another_release, built_by
    from .releases import TritonVersion

    triton = None if triton_version is None else TritonVersion.parse(triton_version)
    problems = repository_check.problems_of(repository, triton)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{repository}  OK")
    if (release := built_by(repository)) != __version__:
        typer.echo(another_release(repository, release), err=True)
