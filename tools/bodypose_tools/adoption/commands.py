"""The `tools adopt` command: a network trained elsewhere becomes one that is served."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bodypose_tools.options import SkeletonOption, network_hw_of, skeleton_of

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
) -> None:
    """Append the decoding layers to a network trained elsewhere.

    Example: `tools adopt NET.onnx -o MODEL.onnx --preset tao`

    Example: `tools adopt NET.onnx -o MODEL.onnx --heatmaps heat --affinity paf --colours bgr
    --mean 128 --std 256 --background last`

    What shapes tell is read from the graph; what they do not is asked for by its option.
    `tools build-repo MODEL.onnx` serves the result, `tools evaluate` scores it.
    """
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

    from bodypose_tools.data.photos import images_in, packaged_images
    from pose_runtime.spec import PipelineSpec

    from .adopt import adopt as stage
    from .foreign_graph import open_network

    samples = partial(images_in, sample_images) if sample_images else packaged_images
    opened = open_network(network, convention, joints)
    pipeline = PipelineSpec(joints, opened.input.network_hw, max_peaks)
    made = stage(network, opened, convention, pipeline, output, samples)
    height, width = pipeline.network_hw
    strides = made.settings["strides"]
    typer.echo(
        f"{made.path}  {made.sha256[:12]}  {joints.name}, {height} x {width}, a cell is"
        f" {strides['heatmaps']} pixels in heatmaps and {strides['affinity']} in fields"
    )


def _with_preset(
    given: Convention, preset: PresetName | None, skeleton: Path | None
) -> tuple[Convention, Skeleton]:
    if preset is None:
        return given, skeleton_of(skeleton)
    from .presets import PRESETS

    known = PRESETS[preset]
    return known.convention.changed(given), skeleton_of(skeleton) if skeleton else known.skeleton
