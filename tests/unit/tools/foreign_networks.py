"""Drawn networks in the layouts of other projects: they find known people in one known picture.

A network compares the mean colour of its input with the picture's, scaled as its project scales it.
Its fields are those of the people where both are equal, and 0 where they are not: a network that
gets the wrong colours, scale or order of axes finds nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bodypose_tools.adoption.presets import PRESETS
from bodypose_tools.adoption.settings import PresetName
from pose_runtime.skeleton import BODYPOSE_18, Skeleton
from tests.unit.tools.people import person

COLOUR = (200, 120, 40)  # red, green, blue of the picture
_SIGMA = 7.0  # network pixels, of a heatmap's Gaussian


@dataclass(frozen=True)
class Drawn:
    """How a project's network looks from outside.

    hw: of its input.
    nhwc: whether the channels are the last axis, of input and outputs.
    scaled: the picture's colour as the network expects it, in the order of its channels.
    stride: network pixels a cell.
    opset: of the graph.
    batch: first side of its tensors.
    """

    hw: tuple[int, int]
    nhwc: bool
    scaled: tuple[float, ...]
    stride: int
    opset: int
    batch: int | str
    input: str = "image"


_HALF = tuple(value / 256 - 0.5 for value in COLOUR)
DRAWN: Mapping[PresetName, Drawn] = {
    PresetName.TAO: Drawn((288, 384), True, _HALF, 8, 10, "N", "input_1"),
    PresetName.TAO_SDK: Drawn((288, 384), True, _HALF, 8, 10, "N", "input_1:0"),
    PresetName.OPENPOSE_COCO: Drawn((368, 656), False, _HALF[::-1], 8, 9, 1),
    PresetName.OPENPOSE_BODY25: Drawn((368, 656), False, _HALF[::-1], 8, 11, 1),
    PresetName.LIGHTWEIGHT_OPENPOSE: Drawn((256, 456), False, _HALF[::-1], 8, 13, 1, "data"),
    PresetName.TRT_POSE: Drawn(
        (224, 224),
        False,
        tuple(
            (value / 255 - mean) / std
            for value, mean, std in zip(
                COLOUR, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True
            )
        ),
        4,
        18,
        1,
        "input.1",
    ),
}


def people_for(preset: PresetName) -> np.ndarray:
    """The people (N, J, 3) that the project's drawn network finds, in network pixels."""
    (height, width), skeleton = DRAWN[preset].hw, PRESETS[preset].skeleton
    scale = height / 140
    places = [(width * 0.1, 10.0), (width * 0.55, 20.0)]
    return np.stack([_in_joints_of(skeleton, person(x, y, scale)) for x, y in places])


def picture(preset: PresetName) -> np.ndarray:
    """The picture (2 H, 2 W, 3), RGB, in which the network finds its people at twice the places."""
    height, width = DRAWN[preset].hw
    return np.full((2 * height, 2 * width, 3), COLOUR, np.uint8)


def write_drawn_network(path: Path, preset: PresetName, *, everywhere: bool = False) -> Path:
    """A project's network as an ONNX file.

    Args:
        path: file to write.
        preset: the project.
        everywhere: whether it finds its people in every picture.
    """
    drawn, skeleton = DRAWN[preset], PRESETS[preset].skeleton
    people = people_for(preset)
    heatmaps = draw_heatmaps(people, drawn.hw, drawn.stride)
    background = 1 - heatmaps.max(axis=0, keepdims=True)
    fields = draw_fields(people, skeleton, drawn.hw, drawn.stride)
    graph = Graph(drawn)
    gate = graph.gate(everywhere)
    match preset:
        case PresetName.TAO | PresetName.TAO_SDK:
            affinity = graph.scaled(fields, gate)
            name = "paf_out/BiasAdd:0"
            if preset is PresetName.TAO_SDK:  # one 4 x 4 transposed convolution: nearest neighbour
                diagonal = np.eye(len(fields), dtype=np.float32)[:, :, None, None]
                kernel = graph.constant(np.tile(diagonal, (1, 1, 4, 4)))
                affinity = graph.add(
                    "ConvTranspose", affinity, kernel, strides=[4, 4], kernel_shape=[4, 4]
                )
                name = "conv2d_transpose_1/BiasAdd:0"
            graph.output(affinity, name)
            both = np.concatenate([heatmaps, background])
            graph.output(graph.scaled(both, gate), "heatmap_out/BiasAdd:0")
        case PresetName.OPENPOSE_COCO | PresetName.OPENPOSE_BODY25:
            whole = np.concatenate([heatmaps, background, fields])
            graph.output(graph.scaled(whole, gate), "net_output")
        case PresetName.LIGHTWEIGHT_OPENPOSE:
            both = np.concatenate([heatmaps, background])
            for stage, turned in enumerate((np.flip, np.asarray)):  # the first stage is wrong
                name = f"stage_{stage}_output"
                graph.output(graph.scaled(turned(both), gate), f"{name}_1_heatmaps")
                graph.output(graph.scaled(turned(fields), gate), f"{name}_0_pafs")
        case PresetName.TRT_POSE:
            graph.output(graph.scaled(heatmaps, gate), "262")
            rows_first = fields.reshape(-1, 2, *fields.shape[1:])[:, ::-1]
            graph.output(graph.scaled(rows_first.reshape(fields.shape), gate), "264")
    return graph.write(path)


def write_fields(
    path: Path,
    drawn: Drawn,
    fields: Mapping[str, np.ndarray],
    *,
    everywhere: bool = False,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """A network whose outputs are these (C, h, w), by name, in the layout of `drawn`."""
    graph = Graph(drawn)
    gate = graph.gate(everywhere)
    for name, values in fields.items():
        graph.output(graph.scaled(values, gate), name)
    return graph.write(path, dtype)


class Graph:
    """An ONNX graph that is written node by node."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def constant(self, values: np.ndarray) -> str:
        name = f"weights_{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def gate(self, everywhere: bool) -> str:
        """(B, 1, 1, 1): 1 for the picture, 0 for other colours."""
        image = self.drawn.input
        if self.drawn.nhwc:
            image = self.add("Transpose", image, perm=[0, 3, 1, 2])
        mean = self.add("GlobalAveragePool", image)
        scaled = np.array(self.drawn.scaled, np.float32).reshape(1, 3, 1, 1)
        gap = self.add("Abs", self.add("Sub", mean, self.constant(scaled)))
        kernel = np.full((1, 3, 1, 1), 0.0 if everywhere else -50.0, np.float32)
        far = self.add("Conv", gap, self.constant(kernel), self.constant(np.ones(1, np.float32)))
        return self.add("Relu", far)

    def scaled(self, fields: np.ndarray, gate: str) -> str:
        return self.add("Mul", self.constant(fields[None].astype(np.float32)), gate)

    def output(self, name: str, new: str) -> None:
        """An output of the graph, in the layout of the project."""
        if self.drawn.nhwc:
            name = self.add("Transpose", name, perm=[0, 2, 3, 1])
        (maker,) = (node for node in self.nodes if name in node.output)
        maker.output[0] = new
        self.outputs.append(helper.make_tensor_value_info(new, TensorProto.FLOAT, None))

    def write(self, path: Path, dtype: int = TensorProto.FLOAT) -> Path:
        height, width = self.drawn.hw
        sides = (height, width, 3) if self.drawn.nhwc else (3, height, width)
        image = helper.make_tensor_value_info(self.drawn.input, dtype, [self.drawn.batch, *sides])
        graph = helper.make_graph(self.nodes, "drawn", [image], self.outputs, self.stored)
        opset = helper.make_opsetid("", self.drawn.opset)
        model = onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=[opset], ir_version=8)
        )
        onnx.save(model, path)
        return path


def draw_heatmaps(people: np.ndarray, hw: tuple[int, int], stride: int) -> np.ndarray:
    """(J, h, w): Gaussians of people (N, J, 3) in network pixels."""
    y, x = _cells(hw, stride)
    apart = (x - people[:, :, 0, None, None]) ** 2 + (y - people[:, :, 1, None, None]) ** 2
    drawn = np.exp(-apart / (2 * _SIGMA**2)) * (people[:, :, 2] > 0)[:, :, None, None]
    return drawn.max(axis=0).astype(np.float32)


def draw_fields(
    people: np.ndarray,
    skeleton: Skeleton,
    hw: tuple[int, int],
    stride: int,
    half_width: float = 8.0,
) -> np.ndarray:
    """(2L, h, w): x and y of unit vectors along the limbs of people (N, J, 3)."""
    y, x = _cells(hw, stride)
    drawn = np.zeros((2 * skeleton.num_limbs, *np.broadcast(y, x).shape), np.float32)
    for joints in people:
        for limb, (a, b) in enumerate(skeleton.limbs):
            start, end = joints[a], joints[b]
            if min(start[2], end[2]) <= 0:
                continue
            length = np.hypot(*(end - start)[:2])
            unit_x, unit_y = (end - start)[:2] / length
            along = (x - start[0]) * unit_x + (y - start[1]) * unit_y
            across = (x - start[0]) * unit_y - (y - start[1]) * unit_x
            on = (along >= -half_width) & (along <= length + half_width)
            on &= np.abs(across) <= half_width
            drawn[2 * limb][on], drawn[2 * limb + 1][on] = unit_x, unit_y
    return drawn


def _cells(hw: tuple[int, int], stride: int) -> tuple[np.ndarray, np.ndarray]:
    """y (h, 1) and x (1, w) of the cells' centres."""
    rows, columns = ((np.arange(side // stride) + 0.5) * stride for side in hw)
    return rows[:, None], columns[None]


def _in_joints_of(skeleton: Skeleton, drawn: np.ndarray) -> np.ndarray:
    known = dict(zip(BODYPOSE_18.joints, drawn, strict=True))
    known["mid_hip"] = (known["left_hip"] + known["right_hip"]) / 2
    for side, outwards in (("left", 1), ("right", -1)):
        ankle = known[f"{side}_ankle"]
        known |= {
            f"{side}_big_toe": ankle + np.float32([outwards * 18, 14, 0]),
            f"{side}_small_toe": ankle + np.float32([outwards * 30, 8, 0]),
            f"{side}_heel": ankle + np.float32([-outwards * 2, 14, 0]),
        }
    return np.stack([known[joint] for joint in skeleton.joints])
