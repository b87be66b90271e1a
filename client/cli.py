"""The `pose-client` command: it speaks, the modules beside it decide."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from pose_runtime.errors import ImageError, PoseError
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .address import DEFAULT_MODEL, DEFAULT_URLS, Address, Protocol
from .errors import AddressError
from .formats import DISPLAY_MIN_SCORE, ImageInfo, image_record
from .inference import Found, Refused, find_people, one_line
from .output_file import write_file
from .picture_file import OutputPathError, picture_paths, write_picture
from .pose_client import DEFAULT_IN_FLIGHT, DEFAULT_TIMEOUT_S, PoseClient
from .transport import connect

Pixels = NDArray[np.uint8]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find people in photos through a running pose server (`tools serve` starts one).",
)

Url = Annotated[
    str | None,
    typer.Option(
        help=f"Server and model, such as {DEFAULT_URLS[Protocol.GRPC]}/{DEFAULT_MODEL}.",
        show_default=f"{DEFAULT_URLS[Protocol.GRPC]}, or {DEFAULT_URLS[Protocol.HTTP]}",
    ),
]
ProtocolOption = Annotated[
    Protocol | None,
    typer.Option(
        help="How requests travel, when --url does not say.", show_default=Protocol.GRPC.value
    ),
]
Timeout = Annotated[float, typer.Option(min=0.001, help="Longest wait for one answer, in seconds.")]
InFlight = Annotated[int, typer.Option(min=1, help="Requests sent at once.")]


@app.command()
def infer(
    ctx: typer.Context,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="JPEG, PNG, WebP or BMP.", show_default=False),
    ],
    url: Url = None,
    protocol: ProtocolOption = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out people below this score.")
    ] = DISPLAY_MIN_SCORE,
    visualize: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Draw the people: a picture file, or a folder."),
    ] = None,
    boxes: Annotated[
        bool, typer.Option("--boxes", help="Frame each person and say its score, in --visualize.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per image and line, schema bodypose/1.")
    ] = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    in_flight: InFlight = DEFAULT_IN_FLIGHT,
) -> None:
    """Find the people in photos.

    Example: `pose-client infer photo.jpg --visualize out.jpg`

    An image that cannot be read is one line on stderr; the others go on, and the exit code is 1.
    """
    try:
        pictures = picture_paths(images, visualize) if visualize else [None] * len(images)
    except OutputPathError as error:
        raise typer.BadParameter(str(error), param_hint="--visualize") from error
    say = _say_json if as_json else _say_text
    draw = _draw_with_boxes if boxes else _draw
    refused = 0
    with _client(ctx, url, protocol, timeout) as client:
        answers = find_people(client, images, in_flight)
        for answer, picture in zip(answers, pictures, strict=True):
            tellers: list[Teller] = [say]
            if picture:
                tellers.append(partial(_save, draw, picture))
            problem = _tell(client, answer, min_score, tellers)
            if problem:
                refused += 1
                _complain(problem)
    if refused:
        raise typer.Exit(1)


Teller = Callable[[PoseClient, Found], None]
Draw = Callable[[Pixels, Poses, Skeleton], Pixels]


def _tell(
    client: PoseClient, answer: Found | Refused, min_score: float, tellers: Sequence[Teller]
) -> str | None:
    """Tell about one answer; gives the problem of an image that has one."""
    if isinstance(answer, Refused):
        return answer.problem
    shown = replace(answer, poses=answer.poses.above(min_score))
    try:
        for tell in tellers:
            tell(client, shown)
    except ImageError as error:  # only when the server accepts more than this client can read
        return one_line(answer.path, error)
    return None


def _save(draw: Draw, picture: Path, client: PoseClient, found: Found) -> None:
    write_picture(picture, draw(_pixels(client, found), found.poses, client.skeleton))


def _draw(pixels: Pixels, poses: Poses, skeleton: Skeleton) -> Pixels:
    from .drawing import draw_poses

    return draw_poses(pixels, poses, skeleton, min_score=0)


def _draw_with_boxes(pixels: Pixels, poses: Poses, skeleton: Skeleton) -> Pixels:
    from .boxes import draw_boxes

    return draw_boxes(_draw(pixels, poses, skeleton), poses, min_score=0)


def _say_text(client: PoseClient, found: Found) -> None:
    count = len(found.poses)
    typer.echo(f"{found.path}: {count} {'person' if count == 1 else 'people'}")
    rows = zip(found.poses.scores, found.poses.num_keypoints, found.poses.boxes, strict=True)
    for number, (score, joints, box) in enumerate(rows, 1):
        x, y, width, height = (f"{side:.0f}" for side in box)
        typer.echo(
            f"  {number:2}  score {score:.2f}  joints {joints:2}/{client.skeleton.num_joints}"
            f"  box {width} x {height} at {x}, {y}"
        )


def _say_json(client: PoseClient, found: Found) -> None:
    height, width = _pixels(client, found).shape[:2]
    info = ImageInfo(found.path.name, width, height)
    record = image_record(found.poses, info, client.model, {"request": found.request_ms})
    typer.echo(json.dumps(record))


def _pixels(client: PoseClient, found: Found) -> Pixels:
    from pose_runtime.images import decode_image

    return decode_image(found.data, client.spec.limits)


@app.command()
def evaluate(
    ctx: typer.Context,
    annotations: Annotated[
        Path, typer.Option("--annotations", "-a", help="COCO keypoints file.", dir_okay=False)
    ],
    images: Annotated[
        Path,
        typer.Option("--images", "-i", help="Folder of its images.", exists=True, file_okay=False),
    ],
    url: Url = None,
    protocol: ProtocolOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, from the start.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
    ] = None,
    results_out: Annotated[
        Path | None,
        typer.Option("--results", metavar="OUT", help="Write every person, in COCO's format."),
    ] = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    in_flight: InFlight = DEFAULT_IN_FLIGHT,
) -> None:
    """Score a server on COCO keypoints: the ten numbers, over all images of the file.

    Example: `pose-client evaluate -a person_keypoints_val.json -i val --json scores.json`
    """
    from .evaluation import evaluate_server, open_split
    from .progress import with_progress

    split = open_split(annotations, images, limit)
    progress = partial(with_progress, total=len(split.images), name="images")
    with _client(ctx, url, protocol, timeout) as client:
        scored = evaluate_server(client, split, in_flight, progress)
    for answer in scored.refused:
        _complain(answer.problem or "")
    for name, value, meaning in scored.metrics.table():
        typer.echo(f"{name:5} {value:>6}  {meaning}")
    typer.echo(
        f"{scored.metrics.images} images with {scored.metrics.people} people, {scored.split};"
        f" {scored.images_per_s:.1f} images/s from {scored.address}"
    )
    if json_out:
        write_file(json_out, (json.dumps(scored.to_json(), indent=2) + "\n").encode())
    if results_out:
        write_file(results_out, (json.dumps(scored.results) + "\n").encode())
    if scored.refused:
        raise typer.Exit(1)


def _client(
    ctx: typer.Context, url: str | None, protocol: Protocol | None, timeout_s: float
) -> PoseClient:
    """The client for the options; `ctx.obj` is the way to the server, when a test gives one."""
    url = url or DEFAULT_URLS[protocol or Protocol.GRPC]
    try:
        address = Address.parse(url)
    except AddressError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    if protocol and address.protocol is not protocol:
        raise typer.BadParameter(
            f"expected a {protocol} URL as --protocol says, got {url}", param_hint="--url"
        )
    return PoseClient(url, timeout_s=timeout_s, connect=ctx.obj or connect)


def _complain(problem: str) -> None:
    typer.secho(f"error: {problem}", err=True, fg=typer.colors.RED)


def main() -> None:
    """Entry point: an error that the user can fix is one line on stderr and exit code 1."""
    try:
        app()
    except PoseError as error:
        _complain(str(error))
        sys.exit(1)
