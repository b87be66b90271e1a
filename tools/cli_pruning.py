"""The pruning side of the `tools` command: what is asked on the command line, and what is said."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .cli_training import KeyOption, say_that_keys_do_nothing


class NormalizerOption(StrEnum):
    """TAO's two ways to make a layer's norms comparable."""

    MAX = "max"
    L2 = "L2"


class EqualizationOption(StrEnum):
    """How the scores of channels that go together become one."""

    UNION = "union"
    INTERSECTION = "intersection"
    ARITHMETIC_MEAN = "arithmetic_mean"
    GEOMETRIC_MEAN = "geometric_mean"


class ImportanceOption(StrEnum):
    """What a channel's score is read from."""

    L2 = "l2"
    L1 = "l1"
    BN_GAMMA = "bn-gamma"


def add_commands(app: typer.Typer) -> None:
    """Register the pruning commands on the `tools` app."""
    app.command("prune")(prune)
    app.command("retrain")(retrain)


Share = typer.Option(min=0.01, max=0.99, help="Find the threshold that leaves this share.")


def prune(
    model: Annotated[Path, typer.Option("-m", "--model", help="A .keras file.", dir_okay=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output_file", "--output-file", help="The .keras to write.")
    ],
    normalizer: Annotated[
        NormalizerOption, typer.Option("-n", "--normalizer")
    ] = NormalizerOption.MAX,
    equalization: Annotated[
        EqualizationOption,
        typer.Option("-eq", "--equalization_criterion", "--equalization-criterion"),
    ] = EqualizationOption.UNION,
    granularity: Annotated[
        int, typer.Option("-pg", "--pruning_granularity", "--pruning-granularity", min=1)
    ] = 8,
    min_filters: Annotated[
        int, typer.Option("-nf", "--min_num_filters", "--min-num-filters", min=1)
    ] = 16,
    threshold: Annotated[
        float, typer.Option("-pth", "--pruning_threshold", "--pruning-threshold", min=0)
    ] = 0.1,
    excluded: Annotated[
        list[str] | None,
        typer.Option("-el", "--excluded_layers", "--excluded-layers", help="Name or pattern."),
    ] = None,
    target_macs: Annotated[float | None, Share] = None,
    target_params: Annotated[float | None, Share] = None,
    importance: Annotated[ImportanceOption, typer.Option()] = ImportanceOption.L2,
    picture: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Draw channels per layer as PNG.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report and write nothing.")] = False,
    key: KeyOption = None,
) -> None:
    """Remove whole channels from a network. Outputs are protected by themselves.

    Example: `tools prune -m best.keras -o pruned.keras -eq union --target-macs 0.5`
    """
    say_that_keys_do_nothing(key)
    if target_macs is not None and target_params is not None:
        raise typer.BadParameter("expected --target-macs or --target-params, got both")
    from . import prune as stage
    from .importance import Equalization, Importance, Normalizer
    from .prune_report import draw_widths

    goal: float | stage.Target = threshold
    if target_macs is not None:
        goal = stage.Target(stage.Cost.MACS, target_macs)
    elif target_params is not None:
        goal = stage.Target(stage.Cost.PARAMS, target_params)
    settings = stage.PruneSettings(
        Normalizer(normalizer),
        Equalization(equalization),
        granularity,
        min_filters,
        tuple(excluded or ()),
        Importance(importance),
    )
    made, report = stage.prune(model, settings, goal, out=None if dry_run else output)
    for line in report.lines():
        typer.echo(line)
    if picture is not None:
        draw_widths(report, f"{model.name} pruned", picture)
    if made is not None:
        typer.echo(f"{made.path}  {made.sha256[:12]}")


def retrain(
    spec: Annotated[
        Path, typer.Option("-e", "--experiment_spec", "--experiment-spec", help="YAML spec.")
    ],
    model: Annotated[
        Path, typer.Option("-m", "--model", help="The pruned .keras file.", dir_okay=False)
    ],
    results: Annotated[
        Path, typer.Option("-r", "--results_dir", "--results-dir", help="Folder of the run.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")
    ] = False,
    key: KeyOption = None,
) -> None:
    """Train a pruned network: its graph and weights are where the training starts.

    Example: `tools retrain -e specs/bodypose-s.yaml -m pruned.keras -r build/runs/pruned`
    """
    from .config import load_train_spec

    checked = load_train_spec(spec).model_copy(
        update={"pretrained_weights": model, "load_graph": True}
    )
    say_that_keys_do_nothing(key)
    from . import train as stage

    best = stage.train(checked, results, resume=resume, say=typer.echo, stage="retrain")
    typer.echo(f"{best.path}  {best.sha256[:12]}")
