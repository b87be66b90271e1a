"""What differs between networks with heatmaps and part affinity fields, as a person states it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Layout(StrEnum):
    """Order of the axes of images and fields."""

    NCHW = "nchw"
    NHWC = "nhwc"


class Colours(StrEnum):
    """Order of an image's channels."""

    RGB = "rgb"
    BGR = "bgr"


class Background(StrEnum):
    """Where the heatmaps have a channel for the background, if at all."""

    NONE = "none"
    FIRST = "first"
    LAST = "last"


class FieldOrder(StrEnum):
    """Which component of a limb's field comes first."""

    XY = "xy"
    YX = "yx"


class Direction(StrEnum):
    """Where fields point: from a limb's first joint to its second, or back."""

    FORWARDS = "forwards"
    BACKWARDS = "backwards"


class PresetName(StrEnum):
    """A project whose conventions are known."""

    TAO = "tao"
    TAO_SDK = "tao-sdk"
    OPENPOSE_COCO = "openpose-coco"
    OPENPOSE_BODY25 = "openpose-body25"
    LIGHTWEIGHT_OPENPOSE = "lightweight-openpose"
    TRT_POSE = "trt-pose"


@dataclass(frozen=True, slots=True)
class Convention:
    """How a network's tensors differ from ours; None: read from the graph, or asked for.

    heatmaps, affinity: names of tensors.
    known_names: names that the project gives its tensors; of outputs that fit, these count.
    combined: name of a tensor with heatmaps, their background and, behind them, fields.
    centre, offsets: names of the tensors of person centres, see `Fields`; none in most networks.
    input_layout, output_layout: order of axes.
    network_hw: height and width of the input.
    colours: order of the input's channels.
    mean, std: the input is (pixel - mean) / std with pixels 0..255; one number, or one for each
        channel in the network's order.
    background: where the heatmaps have it.
    joint_channels: channel of the heatmaps for each joint, in the skeleton's order.
    field_channels: channel of the fields for x and y of each limb: x of the first limb, its y, ...
    field_order: for networks without `field_channels`; None: x first.
    direction: for all limbs; None: as the skeleton has them.
    backwards: limbs that point back, where the others do not.
    """

    heatmaps: str | None = None
    affinity: str | None = None
    known_names: tuple[str, ...] = ()
    combined: str | None = None
    centre: str | None = None
    offsets: str | None = None
    input: str | None = None
    input_layout: Layout | None = None
    output_layout: Layout | None = None
    network_hw: tuple[int, int] | None = None
    colours: Colours | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    background: Background | None = None
    joint_channels: tuple[int, ...] | None = None
    field_channels: tuple[int, ...] | None = None
    field_order: FieldOrder | None = None
    direction: Direction | None = None
    backwards: tuple[int, ...] = ()

    def changed(self, given: Convention) -> Convention:
        """With what `given` states in the place of this convention's."""
        merged: dict[str, Any] = {
            field.name: getattr(given, field.name)
            if getattr(given, field.name) != field.default
            else getattr(self, field.name)
            for field in fields(Convention)
        }
        return Convention(**merged)
