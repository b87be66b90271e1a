"""The commands that make a network smaller: `prune`, `retrain`, `optimize`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import (
    CheckImagesOption,
    GpusOption,
    SpecOption,
    new_file,
    new_folder,
)

from .settings import (
    DEFAULT_THRESHOLD,
    Cost,
    CostTarget,
    Equalization,
    Importance,
    Normalizer,
    PruneSettings,
)

_DEFAULT = PruneSettings()

NormalizerOption = Annotated[
    Normalizer,
    typer.Option(
        "-n", "--normalizer", help="How filter scores of different layers are made comparable."
    ),
]
EqualizationOption = Annotated[
    Equalization,
    typer.Option(
        "-eq",
        "--equalization-criterion",
        metavar="NAME",
        help="How layers that must be cut alike agree on one score per channel: union,"
        " intersection, arithmetic_mean or geometric_mean.",
    ),
]
GranularityOption = Annotated[
    int,
    typer.Option(
        "-pg",
        "--pruning-granularity",
        min=1,
        metavar="N",
        help="A pruned layer keeps a multiple of this many filters.",
    ),
]
MinFiltersOption = Annotated[
    int,
    typer.Option(
        "-nf",
        "--min-num-filters",
        min=1,
        metavar="N",
        help="Fewest filters that a layer keeps.",
    ),
]
ExcludedOption = Annotated[
    list[str] | None,
    typer.Option(
        "-el",
        "--excluded-layers",
        metavar="LAYER",
        help="Layer to leave whole, a name or a pattern such as 'block_1?_*'; may be repeated.",
    ),
]
ImportanceOption = Annotated[
    Importance,
    typer.Option(
        metavar="NAME",
        help="Score of a channel: l2 or l1 (norm of its weights), bn-gamma (batch norm's), or"
        " taylor (estimated change of the loss on training images).",
    ),
]
BatchesOption = Annotated[
    int,
    typer.Option(
        "--taylor-batches",
        min=1,
        metavar="N",
        help="Training batches from which taylor estimates the loss.",
    ),
]


def _between(low: float, high: float) -> Callable[[float | None], float | None]:
    """A check whose limits do not widen the column of types in `--help`."""

    def check(value: float | None) -> float | None:
        if value is not None and not low <= value <= high:
            raise typer.BadParameter(f"expected {low:g} to {high:g}, got {value:g}")
        return value

    return check


TargetMacsOption = Annotated[
    float | None,
    typer.Option(
        callback=_between(0.01, 0.99),
        metavar="SHARE",
        help="Share of the MACs to keep; the threshold is found for it.",
    ),
]
TargetParamsOption = Annotated[
    float | None,
    typer.Option(
        callback=_between(0.01, 0.99),
        metavar="SHARE",
        help="Share of the parameters to keep; the threshold is found for it.",
    ),
]


def prune(
    model: Annotated[
        Path, typer.Option("-m", "--model", help="Network to prune, a .keras file.", dir_okay=False)
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output-file", help="File to write, a .keras.", callback=new_file),
    ],
    normalizer: NormalizerOption = _DEFAULT.normalizer,
    equalization: EqualizationOption = _DEFAULT.equalization,
    granularity: GranularityOption = _DEFAULT.granularity,
    min_filters: MinFiltersOption = _DEFAULT.min_filters,
    threshold: Annotated[
        float | None,
        typer.Option(
            "-pth",
            "--pruning-threshold",
            min=0,
            metavar="X",
            help="Remove channels that score less.",
            show_default=f"{DEFAULT_THRESHOLD}, without a target",
        ),
    ] = None,
    excluded: ExcludedOption = None,
    target_macs: TargetMacsOption = None,
    target_params: TargetParamsOption = None,
    importance: ImportanceOption = _DEFAULT.importance,
    spec: Annotated[
        Path | None,
        typer.Option(
            "-e",
            "--experiment-spec",
            help="Training spec whose images taylor uses, a YAML file.",
        ),
    ] = None,
    taylor_batches: BatchesOption = 32,
    check_images: CheckImagesOption = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Also draw the filters of each layer, a PNG.", callback=new_file
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be removed, and write nothing.")
    ] = False,
) -> None:
    """Remove whole channels from a network. The output layers are never cut.

    Example: `tools prune -m best.keras -o pruned.keras -eq union --target-macs 0.5`
    """
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

        from bodypose_tools.training.setup import training_records
        from bodypose_tools.training.spec import load_train_spec

        from .taylor import taylor_stats

        checked = load_train_spec(spec)
        records = training_records(checked, check_images=check_images)
        measured = partial(taylor_stats, spec=checked, records=records, num_batches=taylor_batches)
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


def _target(macs: float | None, params: float | None) -> CostTarget | None:
    if macs is not None and params is not None:
        raise typer.BadParameter("expected --target-macs or --target-params, got both")
    if macs is not None:
        return CostTarget(Cost.MACS, macs)
    return None if params is None else CostTarget(Cost.PARAMS, params)


def _settings(
    normalizer: Normalizer,
    equalization: Equalization,
    granularity: int,
    min_filters: int,
    excluded: list[str] | None,
    importance: Importance,
) -> PruneSettings:
    return PruneSettings(
        normalizer, equalization, granularity, min_filters, tuple(excluded or ()), importance
    )


def retrain(
    spec: SpecOption,
    model: Annotated[
        Path, typer.Option("-m", "--model", help="Pruned network, a .keras file.", dir_okay=False)
    ],
    results: Annotated[
        Path,
        typer.Option(
            "-r", "--results-dir", help="Folder that the run writes to.", callback=new_folder
        ),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in --results-dir.")
    ] = False,
    check_images: CheckImagesOption = False,
    gpus: GpusOption = None,
) -> None:
    """Train a pruned network, starting from its graph and weights.

    Example: `tools retrain -e specs/bodypose-s.yaml -m pruned.keras -r build/runs/pruned`
    """
    from bodypose_tools.training.spec import load_train_spec

    checked = load_train_spec(spec).on_devices(gpus)
    checked = checked.model_copy(update={"pretrained_weights": model, "load_graph": True})
    from bodypose_tools.training import train as stage

    best = stage.train(
        checked,
        results,
        resume=resume,
        say=typer.echo,
        stage="retrain",
        check_images=check_images,
    )
    typer.echo(f"{best.path}  {best.sha256[:12]}")


def optimize(
    spec: SpecOption,
    model: Annotated[
        Path, typer.Option("-m", "--model", help="Network to prune, a .keras file.", dir_okay=False)
    ],
    results: Annotated[
        Path,
        typer.Option(
            "-r", "--results-dir", help="Folder that the run writes to.", callback=new_folder
        ),
    ] = Path("build/runs/optimize"),
    max_ap_drop: Annotated[
        float, typer.Option(min=0, metavar="N", help="Stop when AP has dropped by more.")
    ] = 0.01,
    steps: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Number of prune-and-retrain steps to the target."),
    ] = 4,
    target_macs: Annotated[
        float | None,
        typer.Option(
            callback=_between(0.01, 0.99),
            metavar="SHARE",
            help="Share of the MACs that is left after the last step.",
            show_default="0.5, without --target-params",
        ),
    ] = None,
    target_params: Annotated[
        float | None,
        typer.Option(
            callback=_between(0.01, 0.99),
            metavar="SHARE",
            help="Share of the parameters that is left after the last step.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Epochs of retraining per step.", show_default="the spec's"
        ),
    ] = None,
    distill: Annotated[
        float | None,
        typer.Option(
            callback=_between(0.01, 1),
            metavar="W",
            help="Weight of the unpruned network's predictions as training targets.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Stop at the last checkpoint within this time; the same command continues.",
        ),
    ] = None,
    no_export: Annotated[
        bool,
        typer.Option(
            "--no-export", help="Only prune and retrain; export and time later, with --no-train."
        ),
    ] = False,
    no_train: Annotated[
        bool,
        typer.Option("--no-train", help="Only export and time what was trained with --no-export."),
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Rounds of timing; the median counts.")
    ] = 50,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads of each runtime.", show_default="all cores"),
    ] = None,
    normalizer: NormalizerOption = _DEFAULT.normalizer,
    equalization: EqualizationOption = _DEFAULT.equalization,
    granularity: GranularityOption = _DEFAULT.granularity,
    min_filters: MinFiltersOption = _DEFAULT.min_filters,
    excluded: ExcludedOption = None,
    importance: ImportanceOption = _DEFAULT.importance,
    taylor_batches: BatchesOption = 32,
    check_images: CheckImagesOption = False,
    json_out: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="OUT",
            help="Results file to which the run is added.",
            callback=new_file,
        ),
    ] = None,
) -> None:
    """Prune and retrain step by step until AP drops too far.

    The same command continues a run that was stopped.

    Example: `tools optimize -e specs/bodypose-s.yaml -m best.keras -r build/runs/small --steps 4`

    On a training machine without TensorFlow add `--no-export` (with KERAS_BACKEND=jax), then run
    the same command with `--no-train` instead on the machine where the network is to run.
    """
    if no_export and no_train:
        raise typer.BadParameter("expected --no-export or --no-train, got both")
    import os

    from bodypose_tools.training.spec import DistillationConfig, load_train_spec

    checked = load_train_spec(spec)
    from bodypose_tools.results.record import Measurement

    from .loop import optimize as run
    from .pareto import add_to_results
    from .plan import Limits, PruningPlan, Work

    plan = PruningPlan.of(
        checked,
        steps,
        _target(target_macs, target_params) or CostTarget(Cost.MACS, 0.5),
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
    trade_off = run(plan, model, results, limits, typer.echo, check_images=check_images)
    for line in trade_off.table():
        typer.echo(line)
    best = trade_off.best
    typer.echo(f"best: {best.name}  {best.model}  {best.sha256[:12]}")
    if json_out is not None:
        add_to_results(trade_off, json_out, measurement)
