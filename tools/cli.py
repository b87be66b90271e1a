"""The `tools` command: it speaks, the stage modules decide. `cli_*.py` hold the commands."""

from __future__ import annotations

import sys

import typer

from pose_runtime.errors import PoseError

from . import (
    cli_benchmark,
    cli_evaluation,
    cli_experiments,
    cli_export,
    cli_operations,
    cli_pruning,
    cli_quantisation,
    cli_serving,
    cli_training,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train, export, build and serve BodyPose on Triton.",
)
cli_training.add_commands(app)
cli_evaluation.add_commands(app)
cli_experiments.add_commands(app)
cli_pruning.add_commands(app)
cli_serving.add_commands(app)
cli_operations.add_commands(app)
cli_export.add_commands(app)
cli_quantisation.add_commands(app)
cli_benchmark.add_commands(app)


def main() -> None:
    """Entry point: an error that the user can fix is one line on stderr and exit code 1."""
    try:
        app()
    except PoseError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        sys.exit(1)


if __name__ == "__main__":
    main()
