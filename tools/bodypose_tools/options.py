"""Options that several `tools` commands share, each in one spelling and with one help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pose_runtime.skeleton import Skeleton


KeyOption = Annotated[
    str | None, typer.Option("-k", "--key", help="Accepted for TAO's sake: nothing is encrypted.")
]
SpecOption = Annotated[
    Path,
    typer.Option(
        "-e",
        "--experiment_spec",
        "--experiment-spec",
        "--experiment_spec_file",
        "--experiment-spec-file",
        help="YAML spec.",
    ),
]
SkeletonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="JSON", help="Your own skeleton.", dir_okay=False, show_default="18 joints"
    ),
]
AnnotationsOption = Annotated[
    Path, typer.Option("--annotations", "-a", help="COCO keypoints file.", dir_okay=False)
]
ImagesOption = Annotated[
    Path,
    typer.Option("--images", "-i", help="Folder of its images.", exists=True, file_okay=False),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only so many images, from the start.")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
]


def say_that_keys_do_nothing(key: str | None) -> None:
    """TAO's habit is harmless here, and said to be."""
    if key is not None:
        typer.echo("-k/--key: nothing is encrypted here, the key is not used", err=True)


def skeleton_of(file: Path | None) -> Skeleton:
    """The skeleton of `--skeleton`, or the 18 joints."""
    from bodypose_tools.data.skeletons import load_skeleton
    from pose_runtime.skeleton import BODYPOSE_18

    return BODYPOSE_18 if file is None else load_skeleton(file)


def network_hw_of(input_dims: str) -> tuple[int, int]:
    """Height and width of TAO's `-d H,W,3`; the network checks what else it needs."""
    from bodypose_tools.networks.fields import STRIDE

    try:
        height, width, channels = (int(side) for side in input_dims.split(","))
    except ValueError:
        height = width = channels = 0
    if channels != 3 or min(height, width) < STRIDE or height % STRIDE or width % STRIDE:
        raise typer.BadParameter(
            f"expected H,W,3 with H and W multiples of {STRIDE}, got {input_dims}",
            param_hint="--input_dims",
        )
    return height, width
