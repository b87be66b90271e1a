"""The commands that train: `train`, `profile-input`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import (
    CheckImagesOption,
    JsonOption,
    KeyOption,
    SpecOption,
    new_folder,
    say_that_keys_do_nothing,
)


def train(
    spec: SpecOption,
    results: Annotated[
        Path,
        typer.Option(
            "-r", "--results-dir", help="Folder that the run writes to.", callback=new_folder
        ),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in --results-dir.")
    ] = False,
    fraction: Annotated[
        float | None,
        typer.Option(
            "--train-fraction",
            min=0.001,
            max=1,
            help="Fraction of the training images to use, chosen by random_seed; epochs are"
            " multiplied, so that the number of steps stays.",
        ),
    ] = None,
    check_images: CheckImagesOption = False,
    key: KeyOption = None,
) -> None:
    """Train a network, keeping the checkpoint with the best AP on the validation split.

    Example: `tools train -e specs/bodypose-s.yaml -r build/runs/bodypose-s`
    """
    from .spec import load_train_spec, on_fraction

    checked = load_train_spec(spec)
    if fraction is not None:
        checked = on_fraction(checked, fraction)
    say_that_keys_do_nothing(key)
    from . import train as stage

    best = stage.train(checked, results, resume=resume, say=typer.echo, check_images=check_images)
    typer.echo(f"{best.path}  {best.sha256[:12]}")


def profile_input(
    spec: SpecOption,
    steps: Annotated[int, typer.Option(min=1, help="Training steps in each timed interval.")] = 60,
    json_out: JsonOption = None,
) -> None:
    """Measure whether training waits for its images.

    It times the training step with real data, and with batches that are on the device already.

    Example: `tools profile-input -e specs/bodypose-s.yaml --json input.json`

    A share of 0.9 or more is good. Below it, raise `workers` or `image_cache_mib` in the spec.
    """
    from bodypose_tools.results.record import Measurement

    from .spec import load_train_spec

    measurement = Measurement(timed=True)
    checked = load_train_spec(spec)
    from .input_profile import profile_input as measure

    record = measure(checked, steps, typer.echo)
    for name, rate in record["images_per_second"].items():
        typer.echo(f"{name:18} {rate:8.1f} images/s")
    typer.echo(f"{'share':18} {record['share']:8.3f}  of {record['device']}")
    if json_out:
        measurement.write(json_out, record, repeats={"rounds": 3, "order": "in turn"})
