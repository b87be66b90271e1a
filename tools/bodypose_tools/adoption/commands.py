"""The `tools adopt` command: a network trained elsewhere becomes one that is served."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bodypose_tools.options import (
    CheckImagesOption,
    SkeletonOption,
    network_hw_of,
    skeleton_of,
)

from . import options
from .settings import (
    Convention,
    PresetName,
)

if TYPE_CHECKING:
    from pose_runtime.skeleton import Skeleton


def adopt(
    network: options.NetworkArgument,
    output: options.OutputOption,
    preset: options.PresetOption = None,
    heatmaps: options.HeatmapsOption = None,
    affinity: options.AffinityOption = None,
    skeleton: SkeletonOption = None,
    input_dims: options.InputDimsOption = None,
    input_name: options.InputOption = None,
    input_layout: options.InputLayoutOption = None,
    colours: options.ColoursOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    output_layout: options.OutputLayoutOption = None,
    background: options.BackgroundOption = None,
    joint_channels: options.JointChannelsOption = None,
    field_channels: options.FieldChannelsOption = None,
    field_order: options.FieldOrderOption = None,
    direction: options.DirectionOption = None,
    backwards: options.BackwardsOption = None,
    centre: options.CentreOption = None,
    offsets: options.OffsetsOption = None,
    max_peaks: options.MaxPeaksOption = 20,
    sample_images: options.SampleImagesOption = None,
    check_annotations: options.CheckAnnotationsOption = None,
    images: options.LabelledImagesOption = None,
    limit: options.CheckLimitOption = 30,
    check_images: CheckImagesOption = False,
) -> None:
    """Append the decoding layers to a network trained elsewhere.

    Example: `tools adopt NET.onnx -o MODEL.onnx --preset tao`

    Example: `tools adopt NET.onnx -o MODEL.onnx --heatmaps heat --affinity paf --colours bgr
    --mean 128 --std 256 --background last`

    What shapes tell is read from the graph; what they do not is asked for by its option. A table
    shows what each channel finds on sample images, and names those that look wrong. With labelled
    images the options that fit best are printed: `tools adopt NET.onnx -o MODEL.onnx
    --check-annotations val.json --images val`

    `tools build-repo MODEL.onnx` serves the result, `tools evaluate` scores it.
    """
    if (check_annotations is None) != (images is None):
        raise typer.BadParameter("expected both or none", param_hint="--check-annotations/--images")
    if check_annotations is not None and images is not None:
        from bodypose_client.image_check import check_split

        check_split(check_annotations, images, limit, decode=check_images)
    given = Convention(
        heatmaps=heatmaps,
        affinity=affinity,
        centre=centre,
        offsets=offsets,
        input=input_name,
        input_layout=input_layout,
        output_layout=output_layout,
        network_hw=network_hw_of(input_dims) if input_dims else None,
        colours=colours,
        mean=options.one_or_three(mean, "--mean"),
        std=options.one_or_three(std, "--std"),
        background=background,
        joint_channels=options.integers(joint_channels, "--joint-channels"),
        field_channels=options.integers(field_channels, "--field-channels"),
        field_order=field_order,
        direction=direction,
        backwards=options.integers(backwards, "--backwards") or (),
    )
    convention, joints = _with_preset(given, preset, skeleton)

    from bodypose_client.pictures.examples import EXAMPLES
    from bodypose_tools.data.photos import images_in
    from pose_runtime.spec import PipelineSpec

    from .adopt import adopt as stage
    from .foreign_graph import open_network, takes_pixels

    if given.mean is given.std is None and takes_pixels(network, convention):
        convention = replace(convention, mean=None, std=None)  # the preset's are in the graph
    if check_annotations is not None and images is not None:
        typer.echo(_fitting(network, convention, joints, check_annotations, images, limit))
    opened = open_network(network, convention, joints)
    pipeline = PipelineSpec(joints, opened.input.network_hw, max_peaks)
    samples = partial(images_in, sample_images or next(iter(EXAMPLES.values())).parent)
    made, report = stage(network, opened, convention, pipeline, output, samples)
    typer.echo("\n".join(report.lines()))
    for doubt in report.doubts:
        typer.echo(f"warning: {doubt}", err=True)
    height, width = pipeline.network_hw
    strides = made.settings["strides"]
    typer.echo(
        f"{made.path}  {made.sha256[:12]}  {joints.name}, {height} x {width}, a cell is"
        f" {strides['heatmaps']} pixels in heatmaps and {strides['affinity']} in fields;"
        f" {len(report.doubts)} channels in doubt"
    )


def _fitting(
    network: Path,
    convention: Convention,
    skeleton: Skeleton,
    annotations: Path,
    images: Path,
    limit: int,
) -> str:
    """The lines about the convention that fits labelled images best."""
    from bodypose_tools.data.coco import read_coco

    from .foreign_graph import open_network
    from .labelled import Labelled, as_options, propose, without_channels

    opened = open_network(network, without_channels(convention, skeleton), skeleton)
    labelled = Labelled.of(read_coco(annotations, images, skeleton, limit), opened.input.network_hw)
    best = propose(opened, convention, skeleton, labelled)
    stated = "" if best.stated_heat is None else f", {best.stated_heat:.2f} as stated"
    lines = [
        f"fits best: {as_options(best.convention)}",
        f"heatmaps are {best.heat:.2f} higher at labelled joints than elsewhere{stated}",
    ]
    if best.unsure:
        lines.append(f"the labels do not tell: {', '.join(best.unsure)}")
    return "\n".join(lines)


def _with_preset(
    given: Convention, preset: PresetName | None, skeleton: Path | None
) -> tuple[Convention, Skeleton]:
    if preset is None:
        return given, skeleton_of(skeleton)
    from .presets import PRESETS

    known = PRESETS[preset]
    return known.convention.changed(given), skeleton_of(skeleton) if skeleton else known.skeleton
