"""The experiments' side of the `tools` command: tables and pictures of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Folders of `tools train -r`.", exists=True),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", metavar="PNG", help="Draw it, too.")
]
PageOption = Annotated[
    Path | None,
    typer.Option("--page", metavar="MD", help="Replace the table between its two comments."),
]


def add_commands(app: typer.Typer) -> None:
    """Register the experiment commands on the `tools` app."""
    app.command("ablation")(ablation)
    app.command("data-scaling")(data_scaling)
    app.command("compare-modes")(compare_modes)


def ablation(
    runs: RunsArgument,
    rounds: Annotated[
        int, typer.Option("--rounds", min=0, help="Of timing on this CPU; 0: not timed.")
    ] = 0,
    json_out: JsonOption = None,
    picture: PictureOption = None,
    page: PageOption = None,
    name: Annotated[
        str, typer.Option(help="Of the table's two comments, <!-- NAME --> and <!-- /NAME -->.")
    ] = "ablation",
) -> None:
    """Compare training runs with the first of them: what each changed, what it cost and reached.

    Example: `tools ablation build/runs/* --rounds 20 --json docs/results/ablation.json`
    """
    from .experiment_charts import draw_points
    from .experiments import ablation_record, ablation_table, read_run, replace_table, write_json
    from .run_costs import with_latency_ratios, with_sizes

    folders = list({folder.resolve(): folder for folder in runs}.values())  # each once, in order
    read = [with_sizes(read_run(folder), folder) for folder in folders]
    if rounds:
        read = with_latency_ratios(read, folders, rounds)
    record = ablation_record(read)
    table = ablation_table(record)
    typer.echo(table, nl=False)
    if json_out:
        write_json(json_out, record)
    if page:
        replace_table(page, name, table)
    if picture:
        costs = [run.latency_ratio if rounds else run.gmacs for run in read]
        points = [
            (run.name, cost or 0.0, run.metrics["AP"])
            for run, cost in zip(read, costs, strict=True)
        ]
        title = f"time against {read[0].name} on one CPU" if rounds else "GMAC"
        draw_points(points, title, "AP against cost", picture)


def data_scaling(
    runs: RunsArgument,
    predict: Annotated[
        int, typer.Option(min=1, help="Number of images to predict AP for.")
    ] = 56_599,
    json_out: JsonOption = None,
    picture: PictureOption = None,
    page: PageOption = None,
) -> None:
    """Fit AP against the number of training images, and say what more of them would bring.

    Example: `tools data-scaling build/runs/data_* --json docs/results/data_scaling.json`

    Make the runs with `tools train --train-fraction`, which keeps the number of steps.
    """
    from .data_scaling import scaling_record, scaling_table
    from .experiment_charts import draw_scaling
    from .experiments import read_run, replace_table, write_json

    record = scaling_record([read_run(folder) for folder in runs], predict)
    table = scaling_table(record)
    typer.echo(table, nl=False)
    if json_out:
        write_json(json_out, record)
    if page:
        replace_table(page, "data-scaling", table)
    if picture:
        draw_scaling(record, picture)


def compare_modes(
    model: Annotated[Path, typer.Argument(help="A .keras file.", dir_okay=False)],
    annotations: Annotated[
        Path, typer.Option("--annotations", "-a", help="COCO keypoints file.", dir_okay=False)
    ],
    images: Annotated[
        Path,
        typer.Option("--images", "-i", help="Folder of its images.", exists=True, file_okay=False),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, from the start.")
    ] = None,
    json_out: JsonOption = None,
    picture: PictureOption = None,
    page: PageOption = None,
) -> None:
    """Score a network as served, with flip, keep-aspect and multi-scale: AP and time of each.

    Example: `tools compare-modes best.keras -a person_keypoints_val.json -i val --json modes.json`
    """
    from .experiment_charts import draw_points
    from .experiments import replace_table, write_json
    from .mode_comparison import compare_modes as compare
    from .mode_comparison import modes_table

    record = compare(model, annotations, images, limit, typer.echo)
    table = modes_table(record)
    typer.echo(table, nl=False)
    if json_out:
        write_json(json_out, record)
    if page:
        replace_table(page, "modes", table)
    if picture:
        points = [
            (row["mode"], row["latency_ratio"], row["metrics"]["AP"]) for row in record["modes"]
        ]
        draw_points(points, "time against strict", "AP of evaluation modes", picture)
