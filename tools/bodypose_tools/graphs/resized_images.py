"""The pass that resizes images by picking rows and columns, for CPUs.

OpenVINO 2026.4 interpolates a vector of channels at once. Images have three, and a copy of
352 x 480 took as long as a twentieth of the network; picking its neighbours takes a third of that.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .index import OnnxGraph, attribute, replace_nodes

_MAX_CHANNELS = 4
_HALF_PIXEL = (b"half_pixel", b"pytorch_half_pixel")


def resize_by_picking(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with picked columns and rows, weighted, for each linear Resize of an image.

    The same numbers up to the rounding of float32.

    Args:
        model: of fixed height and width.
    """
    picked = deepcopy(model)
    graph = OnnxGraph(picked)
    known = onnx.shape_inference.infer_shapes(picked).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*known.input, *known.value_info)
    }
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    for node in graph.nodes:
        sides = shapes.get(node.input[0], []) if node.op_type == "Resize" else []
        scales = _scales(graph, node, sides)
        nodes += [node] if scales is None else _picked(node, sides, scales, stored)
    replace_nodes(picked, nodes, stored)
    return picked


def _scales(graph: OnnxGraph, node: onnx.NodeProto, sides: list[int]) -> NDArray[np.float64] | None:
    """Scale of height and width of a Resize that is picked; None: it is not."""
    if len(sides) != 4 or not all(sides[1:]) or sides[1] > _MAX_CHANNELS:
        return None
    mode = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    if attribute(node, "mode", b"nearest") != b"linear" or mode not in _HALF_PIXEL:
        return None
    if len(node.input) != 3 or not graph.is_constant(node.input[2]):
        return None
    scales = graph.constant(node.input[2]).astype(np.float64)
    return scales[2:] if scales.shape == (4,) and set(scales[:2]) == {1.0} else None


def _picked(
    node: onnx.NodeProto,
    sides: list[int],
    scales: NDArray[np.float64],
    stored: list[onnx.TensorProto],
) -> list[onnx.NodeProto]:
    """Columns first: rows are picked faster, and so the more there are of them."""
    nodes: list[onnx.NodeProto] = []
    read = node.input[0]
    for axis, made in ((3, f"{node.name}/columns"), (2, node.output[0])):
        name = f"{node.name}/{'rows' if axis == 2 else 'columns'}"
        side, scale = sides[axis], scales[axis - 2]
        places = (np.arange(int(side * scale)) + 0.5) / scale - 0.5
        places = np.clip(places, 0, side - 1)
        before = np.floor(places).astype(np.int64)
        share = (places - before).astype(np.float32).reshape(-1, *[1] * (3 - axis))
        constants = {
            "before": before,
            "after": np.minimum(before + 1, side - 1),
            "share_before": 1 - share,
            "share_after": share,
        }
        stored += [numpy_helper.from_array(v, f"{name}/{key}") for key, v in constants.items()]
        for end in ("before", "after"):
            there = f"{name}/{end}_picked"
            nodes += [
                helper.make_node("Gather", [read, f"{name}/{end}"], [there], there, axis=axis),
                helper.make_node(
                    "Mul",
                    [there, f"{name}/share_{end}"],
                    [f"{there}_part"],
                    f"{there}_part",
                ),
            ]
        parts = [f"{name}/{end}_picked_part" for end in ("before", "after")]
        nodes.append(helper.make_node("Add", parts, [made], f"{name}/sum"))
        read = made
    return nodes
