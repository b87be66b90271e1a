"""Owns the tests' smallest network: no weights, and people whose place says what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose_runtime.spec import PipelineSpec

SIZED = 0.5862024  # of a score: the OKS that its person, 17 x 34 network pixels, can expect


def write_tiny_onnx(
    path: Path,
    spec: PipelineSpec,
    operator: str = "ReduceMean",
    nan_above: float = 1e30,
    people: int = 1,
    step: float = 1,
) -> Path:
    """A network that finds one person in every image, or more.

    The person's joint j stands at (j + 1, 2 * (j + 1)) network pixels, moved right by `step` times
    the mean of all the pixels' values, with score 0.9: a brighter image has its person further
    right. Of an image whose mean is more than `nan_above` every place is NaN. Further people stand
    lower and are surer: the best, of score 0.9, is in the last row.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    def constant(name: str, array: Any) -> Any:
        return numpy_helper.from_array(np.asarray(array, np.float32), name)

    joints = np.arange(1, spec.skeleton.num_joints + 1)
    standing = np.zeros((1, *spec.peaks.dims))
    rightwards = np.zeros((1, *spec.peaks.dims))
    limbs = np.zeros((1, *spec.limb_scores.dims))
    for row in range(people):
        score = np.full(len(joints), 0.9 - 0.1 * (people - 1 - row))
        standing[0, :, row] = np.stack([joints, 2 * joints + row, score], axis=1)
        rightwards[0, :, row, 0] = step
        limbs[0, :, row, row] = 0.8
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [spec.pixels.name], ["floats"], to=TensorProto.FLOAT),
            helper.make_node(operator, ["floats"], ["mean"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Mul", ["mean", "rightwards"], ["moved"]),
            helper.make_node("Sub", ["nan_above", "mean"], ["room"]),
            helper.make_node("Sqrt", ["room"], ["root"]),
            helper.make_node("Mul", ["root", "next_to_nothing"], ["nothing_or_nan"]),
            helper.make_node("Add", ["moved", "nothing_or_nan"], ["placed"]),
            helper.make_node("Add", ["placed", "standing"], [spec.peaks.name]),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "limbs"], [spec.limb_scores.name]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info(
                spec.pixels.name, TensorProto.UINT8, ["batch", *spec.pixels.dims]
            )
        ],
        [
            helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, ["batch", *tensor.dims])
            for tensor in (spec.peaks, spec.limb_scores)
        ],
        [
            constant("standing", standing),
            constant("rightwards", rightwards),
            constant("nan_above", np.full((1, 1, 1, 1), nan_above)),
            constant("next_to_nothing", np.full((1, 1, 1, 1), 1e-30)),
            constant("zero", np.zeros((1, 1, 1, 1))),
            constant("limbs", limbs),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"pipeline": spec.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path)
    return path
