"""What an exported graph stores is smaller or safer, and computes the same."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bodypose_tools.graphs.storage import (
    copy_shared_biases,
    rename_outputs,
    round_scales_up,
    share_constants,
    store_as_float16,
)
from tests.unit.tools.tiny_graphs import Tiny, run


def model_of(nodes: list[onnx.NodeProto], **stored: np.ndarray) -> onnx.ModelProto:
    """A model without inputs or outputs: what a pass reads is its nodes and constants."""
    constants = [numpy_helper.from_array(values, name) for name, values in stored.items()]
    return helper.make_model(helper.make_graph(nodes, "parts", [], [], constants))


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_every_pass_leaves_the_model_that_it_was_given_as_it_was():
    tiny = Tiny()
    model = tiny.model(tiny.conv("a", tiny.stem(), (16, 32)))
    before = model.SerializeToString()
    for changed in (
        rename_outputs(model, ["found"]),
        store_as_float16(model),
        round_scales_up(model),
        copy_shared_biases(model),
        share_constants(model),
    ):
        assert changed is not model
    assert model.SerializeToString() == before


def test_an_output_that_a_node_reads_too_keeps_its_reader_under_the_new_name():
    tiny = Tiny()
    early = tiny.stem()
    model = tiny.model(early, tiny.conv("late", early, (16, 4)))
    renamed = rename_outputs(model, ["first", "second"])
    onnx.checker.check_model(renamed, full_check=True)
    assert [output.name for output in renamed.graph.output] == ["first", "second"]
    for before, after in zip(run(model), run(renamed), strict=True):
        assert np.array_equal(before, after)


def test_large_kernels_are_stored_as_float16_and_small_ones_as_they_are():
    tiny = Tiny()
    model = tiny.model(tiny.conv("large", tiny.stem(), (16, 16)))
    stored = store_as_float16(model)
    onnx.checker.check_model(stored, full_check=True)
    types = {name: str(values.dtype) for name, values in constants_of(stored).items()}
    assert types == {
        "stem_w": "float32",  # 48 numbers
        "stem_b": "float32",
        "large_w_float16": "float16",
        "large_b": "float32",
    }
    (before,), (after,) = run(model), run(stored)
    assert 0 < np.abs(after - before).max() < 2e-3 * np.abs(before).max()


def test_resized_sides_are_not_rounded_below_what_was_meant():
    sides = np.array([288, 384, 72, 640])
    wanted = np.array([352, 480, 88, 1280])
    scales = (wanted / sides).astype(np.float32)
    assert np.floor(sides * scales)[0] == 351  # float32's 352 / 288
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"])
    rounded = constants_of(round_scales_up(model_of([resize], scales=scales)))["scales"]
    assert (np.floor(sides * rounded) == wanted).all()
    assert rounded[3] == 2


def test_convolutions_of_a_layer_that_runs_twice_have_biases_of_their_own():
    nodes = [
        helper.make_node("Conv", ["small", "kernel", "bias"], ["one"]),
        helper.make_node("Conv", ["large", "kernel", "bias"], ["two"]),
        helper.make_node("Conv", ["large", "kernel"], ["without"]),
    ]
    bias = np.arange(3, dtype=np.float32)
    kernel = np.ones((3, 3, 1, 1), np.float32)
    copied = copy_shared_biases(model_of(nodes, kernel=kernel, bias=bias))
    assert [list(node.input[1:]) for node in copied.graph.node] == [
        ["kernel", "bias"],
        ["kernel", "bias/2"],
        ["kernel"],
    ]
    values = constants_of(copied)
    assert np.array_equal(values["bias/2"], bias)
    assert values.keys() == {"kernel", "bias", "bias/2"}


def test_equal_constants_are_stored_once_but_for_biases():
    nodes = [
        helper.make_node("Conv", ["small", "kernel", "bias"], ["one"]),
        helper.make_node("Conv", ["large", "same_kernel", "same_bias"], ["two"]),
        helper.make_node("Conv", ["large", "other_kernel", "same_bias"], ["three"]),
    ]
    kernel = np.arange(9, dtype=np.float32).reshape(9, 1, 1, 1)
    bias = np.ones(9, np.float32)
    kernels = {"kernel": kernel, "same_kernel": kernel, "other_kernel": kernel.reshape(1, 9, 1, 1)}
    shared = share_constants(model_of(nodes, **kernels, bias=bias, same_bias=bias))
    assert [list(node.input[1:]) for node in shared.graph.node] == [
        ["kernel", "bias"],
        ["kernel", "same_bias"],
        ["other_kernel", "same_bias"],
    ]
    assert constants_of(shared).keys() == {"kernel", "other_kernel", "bias", "same_bias"}


def test_a_kernel_that_float16_does_not_hold_stays_float32():
    nodes = [helper.make_node("Conv", ["x", name], [f"{name}_out"]) for name in ("a", "b", "c")]
    exact = np.linspace(0, 1, 257, dtype=np.float32).reshape(257, 1, 1, 1)
    kernels = {"a": exact, "b": exact * 1e6, "c": exact / 3}
    stored = store_as_float16(model_of(nodes, **kernels), max_error=1e-6)
    assert constants_of(stored).keys() == {"a_float16", "b", "c"}
