"""The pruning side of the `tools` command: what is asked on the command line, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import KeyOption, SpecOption, say_that_keys_do_nothing

from .settings import DEFAULT_THRESHOLD, Equalization, Importance, Normalizer, PruneSettings, Target

NormalizerOption = Annotated[Normalizer, typer.Option("-n", "--normalizer")]
EqualizationOption = Annotated[
    Equalization,
    typer.Option("-eq", "--equalization_criterion", "--equalization-criterion"),
]
GranularityOption = Annotated[
    int, typer.Option("-pg", "--pruning_granularity", "--pruning-granularity", min=1)
]
MinFiltersOption = Annotated[
    int, typer.Option("-nf", "--min_num_filters", "--min-num-filters", min=1)
]
ExcludedOption = Annotated[
    list[str] | None,
    typer.Option("-el", "--excluded_layers", "--excluded-layers", help="Name or pattern."),
]
ImportanceOption = Annotated[
    Importance,
    typer.Option(help="taylor asks the loss: it needs the spec's training images."),
]
BatchesOption = Annotated[
    int, typer.Option("--taylor-batches", min=1, help="Of training images, for taylor.")
]


Share = typer.Option(min=0.01, max=0.99, help="Find the threshold that leaves this share.")


def prune(
    model: Annotated[Path, typer.Option("-m", "--model", help="A .keras file.", dir_okay=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output_file", "--output-file", help="The .keras to write.")
    ],
    normalizer: NormalizerOption = Normalizer.MAX,
    equalization: EqualizationOption = Equalization.UNION,
    granularity: GranularityOption = 8,
    min_filters: MinFiltersOption = 16,
    threshold: Annotated[
        float | None,
        typer.Option(
            "-pth",
            "--pruning_threshold",
            "--pruning-threshold",
            min=0,
            show_default="0.1, if no target is given",
        ),
    ] = None,
    excluded: ExcludedOption = None,
    target_macs: Annotated[float | None, Share] = None,
    target_params: Annotated[float | None, Share] = None,
    importance: ImportanceOption = Importance.L2,
    spec: Annotated[
        Path | None,
        typer.Option("-e", "--experiment_spec", "--experiment-spec", help="YAML spec, for taylor."),
    ] = None,
    taylor_batches: BatchesOption = 32,
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
    if (importance is Importance.TAYLOR) != (spec is not None):
        raise typer.BadParameter("expected -e with --importance taylor, and only with it")
    target = _target(target_macs, target_params)
    if target is not None and threshold is not None:
        raise typer.BadParameter("expected a threshold or a target, got both", param_hint="-pth")
    from . import prune as stage
    from .report import draw_widths

    goal = DEFAULT_THRESHOLD if threshold is None else threshold
    measured = None
    if spec is not None:
        from functools import partial

        from bodypose_tools.training.spec import load_train_spec

        from .taylor import taylor_stats

        measured = partial(taylor_stats, spec=load_train_spec(spec), num_batches=taylor_batches)
    made, report = stage.prune(
        model,
        _settings(normalizer, equalization, granularity, min_filters, excluded, importance),
        goal if target is None else target,
        out=None if dry_run else output,
        measured=measured,
    )
    for line in report.lines():
        typer.echo(line)
    if picture is not None:
        draw_widths(report, f"{model.name} pruned", picture)
    if made is not None:
        typer.echo(f"{made.path}  {made.sha256[:12]}")


def _target(macs: float | None, params: float | None) -> Target | None:
    if macs is not None and params is not None:
        raise typer.BadParameter("expected --target-macs or --target-params, got both")
    from .settings import Cost, Target

    if macs is not None:
        return Target(Cost.MACS, macs)
    return None if params is None else Target(Cost.PARAMS, params)


def _settings(
    normalizer: Normalizer,
    equalization: Equalization,
    granularity: int,
    min_filters: int,
    excluded: list[str] | None,
    importance: Importance,
) -> PruneSettings:
    from .settings import Equalization, Importance, Normalizer, PruneSettings

    return PruneSettings(
        Normalizer(normalizer),
        Equalization(equalization),
        granularity,
        min_filters,
        tuple(excluded or ()),
        Importance(importance),
    )


def retrain(
    spec: SpecOption,
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
    from bodypose_tools.training.spec import load_train_spec

    checked = load_train_spec(spec).model_copy(
        update={"pretrained_weights": model, "load_graph": True}
    )
    say_that_keys_do_nothing(key)
    from bodypose_tools.training import train as stage

    best = stage.train(checked, results, resume=resume, say=typer.echo, stage="retrain")
    typer.echo(f"{best.path}  {best.sha256[:12]}")


def optimize(
    spec: Annotated[
        Path,
        typer.Option("-e", "--experiment_spec", "--experiment-spec", help="YAML, of each step."),
    ],
    model: Annotated[
        Path, typer.Option("-m", "--model", help="The unpruned .keras file.", dir_okay=False)
    ],
    results: Annotated[
        Path, typer.Option("-r", "--results_dir", "--results-dir", help="Folder of the run.")
    ] = Path("build/runs/optimize"),
    max_ap_drop: Annotated[float, typer.Option(min=0, help="Stop beyond it.")] = 0.01,
    steps: Annotated[int, typer.Option(min=1, help="To the target, in equal shares.")] = 4,
    target_macs: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.99, help="The last step leaves it.", show_default="0.5"),
    ] = None,
    target_params: Annotated[
        float | None, typer.Option(min=0.01, max=0.99, help="The last step leaves it.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of each step.", show_default="the spec's")
    ] = None,
    distill: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Weight of the unpruned network as a teacher."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="End this start at a checkpoint before then.")
    ] = None,
    no_export: Annotated[
        bool, typer.Option("--no-export", help="Leave graphs and times to a later start.")
    ] = False,
    no_train: Annotated[
        bool, typer.Option("--no-train", help="Only make the graphs and times that miss.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Of timing; the median counts.")] = 50,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of every runtime.", show_default="all cores")
    ] = None,
    normalizer: NormalizerOption = Normalizer.MAX,
    equalization: EqualizationOption = Equalization.UNION,
    granularity: GranularityOption = 8,
    min_filters: MinFiltersOption = 16,
    excluded: ExcludedOption = None,
    importance: ImportanceOption = Importance.L2,
    taylor_batches: BatchesOption = 32,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Add the run to such results.")
    ] = None,
) -> None:
    """Prune and retrain step by step until AP drops too far; started again, it goes on.

    Example: `tools optimize -e specs/bodypose-s.yaml -m best.keras -r build/runs/small --steps 4`

    Where there is no TensorFlow: `KERAS_BACKEND=jax tools optimize ... --no-export`, and later the
    same with `--no-train` in its place, where the network is to run.
    """
    if no_export and no_train:
        raise typer.BadParameter("expected --no-export or --no-train, got both")
    import os

    from bodypose_tools.training.spec import DistillationConfig, load_train_spec

    checked = load_train_spec(spec)
    from bodypose_tools.results.record import Measurement

    from .loop import optimize as run
    from .pareto import add_to_results
    from .plan import Limits, Plan, Work
    from .settings import Cost, Target

    plan = Plan.of(
        checked,
        steps,
        _target(target_macs, target_params) or Target(Cost.MACS, 0.5),
        _settings(normalizer, equalization, granularity, min_filters, excluded, importance),
        epochs=epochs,
        distilled=None if distill is None else DistillationConfig(teacher=model, weight=distill),
        taylor_batches=taylor_batches,
    )
    limits = Limits(
        max_ap_drop,
        None if minutes is None else minutes * 60,
        rounds,
        threads or os.cpu_count() or 1,
        Work.TRAINING if no_export else Work.TIMING if no_train else Work.ALL,
    )
    measurement = Measurement(timed=not no_export)
    trade_off = run(plan, model, results, limits, say=typer.echo)
    for line in trade_off.table():
        typer.echo(line)
    best = trade_off.best
    typer.echo(f"best: {best.name}  {best.model}  {best.sha256[:12]}")
    if json_out is not None:
        add_to_results(trade_off, json_out, measurement)
