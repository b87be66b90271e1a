"""The `tools` command: it speaks, the stage modules decide. `cli_*.py` hold the commands."""

from __future__ import annotations

import sys
from typing import NoReturn

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


# Of pyproject.toml, by the packages that only some commands need.
_EXTRA_OF = {
    "keras": "train",
    "tensorflow": "train",
    "matplotlib": "train",
    "tf2onnx": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "skimage": "export",
    "openvino": "embedded",
    "psutil": "benchmark",
}


def main() -> None:
    """Entry point: an error that the user can fix is one line on stderr and exit code 1."""
    try:
        app()
    except PoseError as error:
        _end_with(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF:
            raise
        extra = _EXTRA_OF[package]
        _end_with(
            f"expected the package {package}, got none; run pip install -e '.[{extra}]' -c"
            " constraints.txt"
        )


def _end_with(problem: str) -> NoReturn:
    typer.secho(f"error: {problem}", err=True, fg=typer.colors.RED)
    sys.exit(1)


if __name__ == "__main__":
    main()
