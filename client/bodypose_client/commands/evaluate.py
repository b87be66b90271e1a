"""`pose-client evaluate`: COCO's numbers through a server, and the difference of two results."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bodypose_client.files.output_file import write_file
from bodypose_client.files.outputs import new_file
from bodypose_client.files.picture_file import SUFFIXES
from bodypose_client.files.run import INTERRUPTED
from bodypose_client.session import DEFAULT_IN_FLIGHT, DEFAULT_TIMEOUT_S
from pose_runtime.extras import require

from .check_images import CheckImagesOption
from .connection import InFlight, Timeout, open_client
from .entry import complain
from .interrupt import stop_on_interrupt
from .shared_options import Command

if TYPE_CHECKING:
    from bodypose_client.evaluation import Evaluation, Split
    from pose_runtime.spec import PipelineSpec

DEFAULT_WORST = 12


def add_commands(app: typer.Typer) -> None:
    """Add the command `evaluate` to `pose-client`."""
    app.command(cls=Command)(evaluate)


def evaluate(
    ctx: typer.Context,
    annotations: Annotated[
        Path, typer.Option("--annotations", "-a", help="COCO keypoints file.", dir_okay=False)
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", "-i", help="Folder of the annotated images.", exists=True, file_okay=False
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of images to use, from the file's start."),
    ] = None,
    json_out: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="OUT", help="Write the ten numbers as JSON.", callback=new_file
        ),
    ] = None,
    results_out: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="OUT",
            help="Write every person, in COCO's results format.",
            callback=new_file,
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Draw the worst images, annotated people beside found ones.",
            callback=new_file,
        ),
    ] = None,
    worst: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of images on --sheet.")
    ] = DEFAULT_WORST,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A B", help="Compare the AP of two --results files, without a server."
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of --compare's bootstrap resamples.")
    ] = 1000,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Random seed of --compare's bootstrap.")
    ] = 0,
    check_images: CheckImagesOption = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    in_flight: InFlight = DEFAULT_IN_FLIGHT,
) -> None:
    """Score a server on COCO keypoints: the ten numbers, over all images of the file.

    Example: `pose-client evaluate -a person_keypoints_val.json -i val --json scores.json`

    Two sets of results: `pose-client evaluate -a person_keypoints_val.json --compare A.json B.json`
    """
    require("pycocotools", *(["cv2"] if sheet else []))
    if compare:
        _compare(annotations, compare, limit, resamples, seed, json_out)
        return
    if images is None:
        raise typer.BadParameter("expected a folder", param_hint="--images")
    if sheet and sheet.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(
            f"expected a name that ends in {', '.join(SUFFIXES)}, got {sheet}", param_hint="--sheet"
        )
    from bodypose_client.evaluation import evaluate_server, open_split
    from bodypose_client.image_check import check_split
    from bodypose_client.progress import with_progress
    from bodypose_tools.results.record import Measurement

    measurement = Measurement()
    if check_images:
        check_split(annotations, images, limit, decode=True)
    split = open_split(annotations, images, limit)
    progress = partial(with_progress, total=len(split.images), name="images")
    with open_client(ctx, timeout) as client, stop_on_interrupt() as stop:
        scored = evaluate_server(client, split, in_flight, progress, stop.until)
        spec = client.spec
    for answer in scored.refused:
        complain(answer.problem or "")
    _say(scored)
    if json_out:
        measurement.write(
            json_out,
            scored.to_json(),
            models=[{"name": scored.model.name, "sha256": scored.model.sha256}],
            data=[annotations, images],
        )
    if results_out:
        write_file(results_out, (json.dumps(scored.results) + "\n").encode())
    if sheet:
        _draw_sheet(spec, scored, split, worst, sheet)
    if stop.asked:
        typer.echo(f"interrupted: the numbers are of {scored.metrics.images} images", err=True)
        raise typer.Exit(INTERRUPTED)
    if scored.refused:
        raise typer.Exit(1)


def _say(scored: Evaluation) -> None:
    for name, value, meaning in scored.metrics.table():
        typer.echo(f"{name:5} {value:>6}  {meaning}")
    typer.echo(
        f"{scored.metrics.images} images with {scored.metrics.people} people, {scored.split};"
        f" {scored.images_per_s:.1f} images/s from {scored.address}"
    )
    for group in scored.by_people:
        ap = "n/a" if group.ap < 0 else f"{group.ap:.3f}"
        typer.echo(
            f"AP    {ap:>6}  with {group.name} people an image"
            f" ({group.images} images, {group.people} people)"
        )


def _draw_sheet(
    spec: PipelineSpec, scored: Evaluation, split: Split, worst: int, sheet: Path
) -> None:
    from bodypose_client.files.picture_file import write_picture
    from bodypose_client.formats import DISPLAY_MIN_SCORE
    from bodypose_client.pictures.contact_sheet import contact_sheet
    from bodypose_client.pictures.worst_cases import worst_cases
    from bodypose_client.scoring.oks_matches import worst_images

    refused = {answer.image.id for answer in scored.refused}
    scores = [
        image
        for image in scored.matches.image_scores(DISPLAY_MIN_SCORE)
        if image.image_id not in refused
    ]
    cases = worst_cases(
        worst_images(scores, worst),
        {image.id: image.path for image in split.images},
        split.content,
        scored.results,
        spec,
    )
    if cases:
        write_picture(sheet, contact_sheet(cases, spec.skeleton))


def _compare(
    annotations: Path,
    files: tuple[Path, Path],
    limit: int | None,
    resamples: int,
    seed: int,
    json_out: Path | None,
) -> None:
    from bodypose_client.evaluation import load_results
    from bodypose_client.scoring.annotations import load_coco
    from bodypose_client.scoring.coco_eval import evaluate_with_matches
    from bodypose_client.scoring.comparison import compare

    content = load_coco(annotations)
    image_ids = [image["id"] for image in content["images"][:limit]]
    a, b = (evaluate_with_matches(content, load_results(path), image_ids)[1] for path in files)
    compared = compare(a, b, resamples, seed)
    for letter, path, ap in zip("AB", files, (compared.ap_a, compared.ap_b), strict=True):
        typer.echo(f"{letter}     {ap:6.3f}  {path}")
    typer.echo(
        f"B-A   {compared.difference:+.3f}  {compared.low:+.3f} to {compared.high:+.3f} with 95 %"
        f" confidence: {compared.verdict}"
    )
    typer.echo(
        f"paired bootstrap over {compared.images} images, {compared.resamples} resamples,"
        f" seed {compared.seed}"
    )
    if json_out:
        write_file(json_out, (json.dumps(compared.to_json(), indent=2) + "\n").encode())
