"""The commands that compare runs: `ablation`, `data-scaling`, `compare-modes`, `compare-sizes`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodypose_tools.options import (
    AnnotationsOption,
    CheckImagesOption,
    ImagesOption,
    JsonOption,
    LimitOption,
    network_hw_of,
    new_file,
)

RunsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN",
        help="Folders of finished runs, as `tools train -r` writes them.",
        exists=True,
    ),
]
ModelArgument = Annotated[Path, typer.Argument(help="A .keras file.", dir_okay=False)]
PictureOption = Annotated[
    Path | None,
    typer.Option("--picture", metavar="PNG", help="Also draw the comparison.", callback=new_file),
]


if TYPE_CHECKING:
    from bodypose_tools.results.record import Measurement

_IN_TURN = {"rounds": "one an image", "order": "in turn"}


def ablation(
    runs: RunsArgument,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds", min=0, help="Rounds of timing each network on this CPU; 0: no timing."
        ),
    ] = 0,
    json_out: JsonOption = None,
    picture: PictureOption = None,
) -> None:
    """Compare training runs with the first one: changes of the spec, cost and AP.

    Example: `tools ablation build/runs/* --rounds 20 --json docs/results/ablation.json`
    """
    from bodypose_tools.results.record import Measurement

    from .charts import draw_points
    from .costs import with_latency_ratios, with_sizes
    from .runs import ablation_record, ablation_table, read_run

    measurement = Measurement(timed=rounds > 0)
    folders = list({folder.resolve(): folder for folder in runs}.values())  # each once, in order
    read = [with_sizes(read_run(folder), folder) for folder in folders]
    if rounds:
        read = with_latency_ratios(read, folders, rounds)
    record = ablation_record(read)
    made: dict[str, Any] = {
        "models": [{"name": f"{run.name}/best.keras", "sha256": run.sha256} for run in read]
    }
    if rounds:
        made["repeats"] = {"rounds": rounds, "order": "in turn"}
    _publish(record, ablation_table(record), json_out, measurement, **made)
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
        int, typer.Option(min=1, help="Number of training images for which AP is predicted.")
    ] = 56_599,
    json_out: JsonOption = None,
    picture: PictureOption = None,
) -> None:
    """Fit AP against the number of training images, and predict AP for more of them.

    Example: `tools data-scaling build/runs/data_* --json docs/results/data_scaling.json`

    Make the runs with `tools train --train-fraction`, which keeps the number of steps.
    """
    from bodypose_tools.results.record import Measurement

    from .charts import draw_scaling
    from .data_scaling import scaling_record, scaling_table
    from .runs import read_run

    measurement = Measurement()
    read = [read_run(folder) for folder in runs]
    record = scaling_record(read, predict)
    models = [{"name": f"{run.name}/best.keras", "sha256": run.sha256} for run in read]
    table = scaling_table(record)
    _publish(record, table, json_out, measurement, models=models)
    if picture:
        draw_scaling(record, picture)


def compare_modes(
    model: ModelArgument,
    annotations: AnnotationsOption,
    images: ImagesOption,
    limit: LimitOption = None,
    check_images: CheckImagesOption = False,
    json_out: JsonOption = None,
    picture: PictureOption = None,
) -> None:
    """Compare AP and time of a network in each evaluation mode.

    The modes are as served, flip, keep-aspect and multi-scale.

    Example: `tools compare-modes best.keras -a person_keypoints_val.json -i val --json modes.json`
    """
    from bodypose_client.image_check import check_split
    from bodypose_tools.results.record import Measurement

    from .charts import draw_points
    from .views import compare_modes as compare
    from .views import modes_table

    check_split(annotations, images, limit, decode=check_images)
    measurement = Measurement(timed=True)
    record = compare(model, annotations, images, limit, typer.echo)
    made = {"models": [model], "data": [annotations, images], "repeats": _IN_TURN}
    _publish(record, modes_table(record), json_out, measurement, **made)
    if picture:
        draw_points(_points(record), "time against strict", "AP of evaluation modes", picture)


def compare_sizes(
    model: ModelArgument,
    annotations: AnnotationsOption,
    images: ImagesOption,
    sizes: Annotated[
        list[str],
        typer.Option(
            "-d",
            "--input-dims",
            metavar="H,W,3",
            help="Input size to compare; may be repeated.",
        ),
    ],
    limit: LimitOption = None,
    check_images: CheckImagesOption = False,
    json_out: JsonOption = None,
    picture: PictureOption = None,
) -> None:
    """Compare AP and time of a network at several input sizes.

    Example: `tools compare-sizes best.keras -a person_keypoints_val.json -i val -d 224,320,3`
    """
    from .charts import draw_points
    from .views import compare_sizes as compare
    from .views import modes_table

    wanted = [network_hw_of(size) for size in sizes]
    from bodypose_client.image_check import check_split
    from bodypose_tools.results.record import Measurement

    check_split(annotations, images, limit, decode=check_images)
    measurement = Measurement(timed=True)
    record = compare(model, wanted, annotations, images, limit, typer.echo)
    made = {"models": [model], "data": [annotations, images], "repeats": _IN_TURN}
    _publish(record, modes_table(record), json_out, measurement, **made)
    if picture:
        own = record["modes"][0]["mode"]
        draw_points(_points(record), f"time against {own}", "AP of input sizes", picture)


def _points(record: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    return [(row["mode"], row["latency_ratio"], row["metrics"]["AP"]) for row in record["modes"]]


def _publish(
    record: Mapping[str, Any],
    table: str,
    json_out: Path | None,
    measurement: Measurement,
    **made: Any,
) -> None:
    """Say the table, and write what was asked for."""
    typer.echo(table, nl=False)
    if json_out:
        measurement.write(json_out, record, **made)
