"""The `tools` command: which commands there are, in the order in which a person meets them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from bodypose_client.commands.entry import Version, run
from bodypose_client.commands.shared_options import Group

from .adoption.commands import adopt
from .benchmark.commands import (
    benchmark,
    benchmark_report,
    compare_quantisers,
    import_movenet_graph,
    tune,
)
from .bulk.commands import bulk
from .deploying.commands import deploy_files
from .engines.commands import build_engine
from .evaluation.commands import evaluate, inference, oracle, tune_grouping
from .experiments.commands import ablation, compare_modes, compare_sizes, data_scaling
from .export.commands import export
from .files.commands import starter_files
from .library_messages import leave_out_known, show_all
from .pages.commands import app as results
from .pretrained.commands import add_pyramid, import_backbone, interpolate, remove_pyramid
from .pruning.commands import optimize, prune, retrain
from .quantisation.commands import (
    compare,
    compare_speed,
    equalise,
    gate,
    sample_calibration_images,
)
from .repository.commands import build_repo, check_repo
from .scenes.commands import draw_people
from .server.commands import demo, promote, rollback, serve
from .soak.commands import soak
from .tao_options import ToolsCommand
from .training.commands import dataset_convert, import_tao_spec, profile_input, train

leave_out_known()

# What a person is doing -> the commands for it.
COMMANDS: Final[Mapping[str, tuple[Callable[..., Any], ...]]] = {
    "Train": (
        starter_files,
        draw_people,
        train,
        import_tao_spec,
        import_backbone,
        interpolate,
        add_pyramid,
        remove_pyramid,
        profile_input,
    ),
    "Evaluate": (evaluate, inference, bulk, oracle, tune_grouping),
    "Make small": (prune, retrain, optimize),
    "Export": (
        export,
        adopt,
        sample_calibration_images,
        equalise,
        gate,
        compare,
        compare_speed,
        build_engine,
    ),
    "Serve": (build_repo, check_repo, serve, demo, promote, rollback, deploy_files),
    "Measure": (benchmark, benchmark_report, tune, soak, import_movenet_graph, compare_quantisers),
    "Compare runs": (ablation, data_scaling, compare_modes, compare_sizes),
}


def _our_spelling(token: str) -> str:
    """TAO writes `--results_dir` where we write `--results-dir`; both are understood."""
    return token.replace("_", "-")


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": _our_spelling,
    },
    help="Train, make small, export, serve and measure BodyPose on Triton.\n\n"
    "Example: `tools train -e specs/bodypose-s.yaml -r build/runs/bodypose-s`",
)
app.add_typer(results, name="results", rich_help_panel="Measure")
for _panel, _commands in COMMANDS.items():
    for _command in _commands:
        app.command(_command.__name__.replace("_", "-"), rich_help_panel=_panel, cls=ToolsCommand)(
            _command
        )
app.command("dataset-convert", hidden=True, cls=ToolsCommand)(dataset_convert)


# What a person is doing, or a command -> the extras for all of it, where a package does not tell.
_EXTRAS: Final = {"bulk": "bulk", "Train": "train", "Make small": "train", "Export": "train,export"}
_SERVING: Final = "embedded"
_NOT_TELLING: Final = ("cv2", "onnx", "onnxruntime", "pycocotools", "pydantic", "yaml")


def extra_of(arguments: Sequence[str]) -> Mapping[str, str]:
    """Package -> the extras to install for the command in `arguments`, in one go."""
    asked = next((each for each in arguments if not each.startswith("-")), "")
    for panel, commands in COMMANDS.items():
        if asked.replace("-", "_") in {command.__name__ for command in commands}:
            return dict.fromkeys(_NOT_TELLING, _EXTRAS.get(asked) or _EXTRAS.get(panel, _SERVING))
    return dict.fromkeys(_NOT_TELLING, "tools")


@app.callback()
def _options(
    version: Version = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Also show what libraries print about themselves.",
            callback=show_all,
        ),
    ] = False,
) -> None: ...


def main() -> None:
    """Entry point: an error that the user can fix is one line on stderr and exit code 1."""
    run(app, extra_of(sys.argv[1:]))


if __name__ == "__main__":
    main()
