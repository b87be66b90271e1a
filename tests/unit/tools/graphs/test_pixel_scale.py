"""The start of an exported graph, rewritten: the same numbers in fewer steps."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bodypose_tools.graphs.pixel_scale import fold_pixel_scale
from bodypose_tools.runtimes.cpu import onnx_session

RNG = np.random.default_rng(0)


def graph(scale: float = 1 / 256, last: str = "Conv", half: bool = True) -> onnx.ModelProto:
    """pixels (B, 8, 8, 3) uint8 -> scale, offset -> channels first -> convolution."""
    kernel = RNG.normal(size=(16, 3, 3, 3)).astype(np.float16 if half else np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["shifted"]),
        helper.make_node("Transpose", ["shifted"], ["first"], perm=[0, 3, 1, 2]),
    ]
    if last == "Conv":
        if half:
            nodes.insert(0, helper.make_node("Cast", ["stored"], ["kernel"], to=TensorProto.FLOAT))
        pads = {"pads": [0, 0, 1, 1], "strides": [2, 2]}
        inputs = ["first", "kernel" if half else "stored", "bias"]
        nodes.append(helper.make_node("Conv", inputs, ["out"], "stem", **pads))
    else:
        nodes.append(helper.make_node("Relu", ["first"], ["out"]))
    constants = {
        "scale": np.float32(scale),
        "offset": np.float32(-0.5),
        "stored": kernel,
        "bias": RNG.normal(size=16).astype(np.float32),
    }
    made = helper.make_graph(
        nodes,
        "start",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", 8, 8, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnx_session(model.SerializeToString())
    pixels = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    return session.run(None, {"pixels": pixels})[0]


@pytest.mark.parametrize("half", [True, False])
def test_the_same_numbers_come_out_of_fewer_steps(half):
    model = graph(half=half)
    before = run(model)
    folded = fold_pixel_scale(model)
    onnx.checker.check_model(folded, full_check=True)
    assert [node.op_type for node in folded.graph.node] == ["Cast", "Add", "Transpose", "Conv"]
    assert len(folded.graph.initializer) == 3
    assert np.array_equal(run(model), before)  # the model itself is as it was
    np.testing.assert_allclose(run(folded), before, rtol=0, atol=1e-6)


def test_a_resized_copy_with_the_same_kernel_is_folded_too():
    model = graph()
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    )
    pads = {"pads": [0, 0, 1, 1], "strides": [4, 4]}
    model.graph.node.extend(
        [
            helper.make_node("Resize", ["first", "", "scales"], ["larger"], mode="linear"),
            helper.make_node("Conv", ["larger", "kernel", "bias"], ["more"], "again", **pads),
        ]
    )
    model.graph.node[-3].output[0] = "own"
    model.graph.node.append(helper.make_node("Sub", ["own", "more"], ["out"]))
    onnx.checker.check_model(model, full_check=True)
    before = run(model)
    assert np.ptp(before) > 1
    folded = fold_pixel_scale(model)
    onnx.checker.check_model(folded, full_check=True)
    kinds = [node.op_type for node in folded.graph.node]
    assert kinds == ["Cast", "Add", "Transpose", "Conv", "Resize", "Conv", "Sub"]
    np.testing.assert_allclose(run(folded), before, rtol=0, atol=1e-5)


def test_a_graph_that_starts_otherwise_stays_as_it_is():
    model = graph(last="Relu")
    node_types = [node.op_type for node in model.graph.node]
    same = fold_pixel_scale(model)
    assert [node.op_type for node in same.graph.node] == node_types
    assert same.graph.initializer == model.graph.initializer
