"""A network that costs nothing: one photo's outputs for every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bodypose_tools.files.artifacts import Artifact
from pose_runtime.images import network_pixels

from .conditions import Pixels, Setting

Network = Callable[[Pixels], Sequence[Any]]


def write_free_network(setting: Setting, jpeg: bytes, network: Network, output: Path) -> Path:
    """An ONNX file with the tensors of the setting's model, and `jpeg`'s people for every image.

    Args:
        setting: its model.
        jpeg: a photo of people.
        network: pixels (1, H, W, 3) uint8 to the model's peaks and limb scores.
        output: ONNX file to write.
    """
    spec = setting.spec
    pixels, _ = network_pixels(jpeg, spec.network_hw, spec.limits)
    answers = [np.array(each, np.float32) for each in network(pixels[None])]
    shipped = onnx.load(setting.model, load_external_data=False)
    constants = [
        numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (
            ("starts", [0, 0, 0], np.int64),
            ("ends", [1, 1, 1], np.int64),
            ("axes", [1, 2, 3], np.int64),
            ("nothing", 0, np.float32),
        )
    ]
    source, results = shipped.graph.input[0], (spec.peaks.name, spec.limb_scores.name)
    nodes = [
        helper.make_node("Slice", [source.name, "starts", "ends", "axes"], ["corner"]),
        helper.make_node("Cast", ["corner"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "nothing"], ["zero"]),
    ]
    for name, answer in zip(results, answers, strict=True):
        constants.append(numpy_helper.from_array(answer, f"{name} of the photo"))
        nodes.append(helper.make_node("Add", ["zero", f"{name} of the photo"], [name]))
    graph = helper.make_graph(nodes, "free", [source], list(shipped.graph.output), constants)
    free = helper.make_model(
        graph, opset_imports=shipped.opset_import, ir_version=shipped.ir_version
    )
    free.metadata_props.extend(shipped.metadata_props)
    onnx.save(free, output)
    Artifact.record(output, "export", Artifact.open(setting.model))
    return output
