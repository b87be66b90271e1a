"""`pose-client infer`: people in files, folders, patterns and stdin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bodypose_client.files.image_sources import ImageFile, image_files
from bodypose_client.files.inference import find_people
from bodypose_client.files.outputs import file_or_folder, new_folder
from bodypose_client.files.picture_file import OutputPathError
from bodypose_client.files.result_text import Format, result_text
from bodypose_client.files.run import INTERRUPTED, InferRun, Job, Pixels, jobs_for
from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_client.progress import with_progress
from bodypose_client.results import ImagePoses
from bodypose_client.session import DEFAULT_IN_FLIGHT, DEFAULT_TIMEOUT_S
from pose_runtime.extras import require
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .connection import InFlight, Timeout, open_client
from .entry import complain
from .interrupt import stop_on_interrupt
from .shared_options import Command


def add_commands(app: typer.Typer) -> None:
    """Add the command `infer` to `pose-client`."""
    app.command(cls=Command)(infer)


def infer(
    ctx: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|DIR|LIST.json",
            help="JPEG, PNG, WebP or BMP files, folders, 'patterns/**/*.jpg', a JSON list of"
            " paths beside it, or - for stdin.",
            show_default=False,
        ),
    ],
    min_score: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SCORE", help="Leave out people below this score."),
    ] = DISPLAY_MIN_SCORE,
    visualize: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Draw the people: a picture file, or a folder.",
            callback=file_or_folder,
        ),
    ] = None,
    boxes: Annotated[
        bool, typer.Option("--boxes", help="Draw a box with the score around each person.")
    ] = False,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Print results for other programs; openpose and json: one line an image.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results as JSON, the same as --format json.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write results into this folder, a file for each image (JSON, unless --format"
            " names another form); an image that has its file is skipped.",
            callback=new_folder,
            file_okay=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Skip no image that has its results already.")
    ] = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    in_flight: InFlight = DEFAULT_IN_FLIGHT,
) -> None:
    """Find the people in photos.

    Example: `pose-client infer photo.jpg --visualize out.jpg`

    An image that cannot be read is one line on stderr; the others go on, and the exit code is 1.
    Ctrl-C keeps what is done (exit code 130); with `--output` the same command goes on later.
    """
    if as_json and form not in (None, Format.JSON):
        raise typer.BadParameter("expected json or no --json", param_hint="--format")
    form = Format.JSON if as_json else form
    if visualize:
        require("cv2")
    jobs = _jobs(images, visualize, output, form or Format.JSON)
    todo = [job for job in jobs if overwrite or not job.is_done]
    if len(todo) < len(jobs):
        _note(f"skipped {len(jobs) - len(todo)} images whose results are there (--overwrite)")
    with open_client(ctx, timeout) as client, stop_on_interrupt() as stop:
        draw = _draw_with_boxes if boxes else _draw
        run = InferRun(client, todo, form or Format.JSON, draw, min_score, complain)
        files = stop.until(job.file for job in todo)
        found = run.keep(find_people(client, files, in_flight))
        if output:
            for _ in with_progress(found, len(todo), "images"):
                pass
            typer.echo(f"{output}: {run.finished} written, {run.refused} refused")
        elif form:
            for part in result_text(form, client.skeleton, (poses for _, poses in found)):
                typer.echo(part, nl=False)
        else:
            for file, poses in found:
                _say(file, poses)
    if stop.asked:
        _note(f"interrupted: {run.finished} of {len(todo)} images are done")
        raise typer.Exit(INTERRUPTED)
    if run.refused:
        raise typer.Exit(1)


def _jobs(
    images: Sequence[str], visualize: Path | None, output: Path | None, form: Format
) -> list[Job]:
    try:
        return jobs_for(image_files(images), visualize, output, form)
    except OutputPathError as error:
        raise typer.BadParameter(str(error), param_hint="--visualize") from error


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _draw(pixels: Pixels, poses: Poses, skeleton: Skeleton) -> Pixels:
    from bodypose_client.pictures.drawing import draw_poses

    return draw_poses(pixels, poses, skeleton, min_score=0)


def _draw_with_boxes(pixels: Pixels, poses: Poses, skeleton: Skeleton) -> Pixels:
    from bodypose_client.pictures.boxes import draw_boxes

    return draw_boxes(_draw(pixels, poses, skeleton), poses, min_score=0)


def _say(file: ImageFile, poses: ImagePoses) -> None:
    count = len(poses)
    typer.echo(f"{file.path}: {count} {'person' if count == 1 else 'people'}")
    rows = zip(poses.scores, poses.num_keypoints, poses.boxes, strict=True)
    for number, (score, joints, box) in enumerate(rows, 1):
        x, y, width, height = (f"{side:.0f}" for side in box)
        typer.echo(
            f"  {number:2}  score {score:.2f}  joints {joints:2}/{poses.skeleton.num_joints}"
            f"  box {width} x {height} at {x}, {y}"
        )
