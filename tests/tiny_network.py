"""Owns the tests' smallest network: no weights, and one person whose place says what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose_runtime.spec import PipelineSpec


def write_tiny_onnx(
    path: Path, spec: PipelineSpec, operator: str = "ReduceMean", nan_above: float = 1e30
) -> Path:
    """A network that finds one person in every image.

    The person's joint j stands at (j + 1, 2 * (j + 1)) network pixels, moved right by the mean of
    all the pixels' values, with score 0.9: a brighter image has its person further right. Of an
    image whose mean is more than `nan_above` every place is NaN.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    def constant(name: str, array: Any) -> Any:
        return numpy_helper.from_array(np.asarray(array, np.float32), name)

    joints = np.arange(1, spec.skeleton.num_joints + 1)
    standing = np.zeros((1, *spec.peaks.dims))
    standing[0, :, 0] = np.stack([joints, 2 * joints, np.full(len(joints), 0.9)], axis=1)
    rightwards = np.zeros((1, *spec.peaks.dims))
    rightwards[0, :, 0, 0] = 1
    limbs = np.zeros((1, *spec.limb_scores.dims))
    limbs[0, :, 0, 0] = 0.8
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
