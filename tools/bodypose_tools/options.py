"""Options that several `tools` commands share, each in one spelling and with one help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodypose_client.commands import check_images
from bodypose_client.files import outputs

if TYPE_CHECKING:
    from pose_runtime.skeleton import Skeleton


SpecOption = Annotated[
    Path,
    typer.Option(
        "-e",
        "--experiment-spec",
        help="Training spec, a YAML file.",
    ),
]
GpusOption = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        min=0,
        metavar="N",
        help="GPUs that share each batch; 0: all.",
        show_default="the spec's `devices`",
    ),
]
SkeletonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="JSON",
        help="Skeleton of your own, as `Skeleton.to_json` writes it.",
        dir_okay=False,
        show_default="18 joints",
    ),
]
AnnotationsOption = Annotated[
    Path,
    typer.Option(
        "--annotations", "-a", help="COCO keypoint annotations, a JSON file.", dir_okay=False
    ),
]
ImagesOption = Annotated[
    Path,
    typer.Option(
        "--images",
        "-i",
        help="Folder with the images of the annotations.",
        exists=True,
        file_okay=False,
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Use only the first N images.", metavar="N")
]
CalibrationImagesOption = Annotated[
    Path,
    typer.Option(
        "--cal-image-dir",
        help="Folder of calibration images, from `tools sample-calibration-images`.",
        exists=True,
        file_okay=False,
    ),
]
CheckImagesOption = check_images.CheckImagesOption


new_file, new_folder = outputs.new_file, outputs.new_folder
old_or_new_file = outputs.old_or_new_file

JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="OUT", help="Also write the numbers as JSON.", callback=new_file
    ),
]


def skeleton_of(file: Path | None) -> Skeleton:
    """The skeleton of `--skeleton`, or the default one of 18 joints.

    Raises:
        ConfigError: the file is missing, or no skeleton.
    """
    from bodypose_tools.data.skeletons import load_skeleton
    from pose_runtime.skeleton import BODYPOSE_18

    return BODYPOSE_18 if file is None else load_skeleton(file)


def input_dims_option(sides: str, show_default: str, panel: str | None = None) -> Any:
    """TAO's `-d H,W,3`, which `network_hw_of` reads.

    Args:
        sides: what the sides are, for the help.
        show_default: the size without the option.
        panel: of the help.
    """
    return typer.Option(
        "-d",
        "--input-dims",
        metavar="H,W,3",
        help=sides,
        show_default=show_default,
        rich_help_panel=panel,
    )


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
            param_hint="--input-dims",
        )
    return height, width
