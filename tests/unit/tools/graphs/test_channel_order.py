"""Elementwise operators run in the order of channels around them, and compute the same."""

import numpy as np
import onnx

from bodypose_tools.graphs.channel_order import keep_channel_order
from tests.unit.tools.tiny_graphs import FLOAT, Tiny, run

LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def peaks(tiny: Tiny, heat: str) -> str:
    """Heat where it is the largest of its neighbourhood, channels last, as Keras's layers make."""
    pooled = tiny.op("MaxPool", "pool", heat, kernel_shape=[3, 3], pads=[1] * 4)
    a = tiny.op("Transpose", "pool_last", pooled, perm=LAST)
    b = tiny.op("Transpose", "heat_last", heat, perm=LAST)
    is_peak = tiny.op("Cast", "cast", tiny.op("LessOrEqual", "is_peak", a, b), to=FLOAT)
    doubled = tiny.op("Mul", "twice", b, tiny.constant("two", np.float32(2)))
    return tiny.op("Mul", "score", doubled, is_peak)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def changed(model: onnx.ModelProto) -> onnx.ModelProto:
    before = model.SerializeToString()
    kept = keep_channel_order(model)
    onnx.checker.check_model(kept, full_check=True)
    assert model.SerializeToString() == before
    for one, other in zip(run(model), run(kept), strict=True):
        assert np.ptp(one) > 0
        assert np.array_equal(one, other)
    return kept


def test_what_is_turned_back_is_not_turned():
    tiny = Tiny()
    first = tiny.op("Transpose", "first", peaks(tiny, tiny.stem()), perm=FIRST)
    kept = changed(tiny.model(tiny.op("Relu", "end", first)))
    assert kinds(kept) == ["Conv", "MaxPool", "LessOrEqual", "Cast", "Mul", "Mul", "Relu"]


def test_its_shape_stays_as_it_was():
    tiny = Tiny()
    score = peaks(tiny, tiny.stem())
    first = tiny.op("Transpose", "first", score, perm=FIRST)
    shape = tiny.op("Cast", "floats", tiny.op("Shape", "shape", score), to=FLOAT)
    rank = tiny.constant("rank", np.array([1, 1, 1, 4]))
    shape = tiny.op("Reshape", "sides", shape, rank)
    kept = changed(tiny.model(tiny.op("Relu", "end", first), shape))
    assert "Transpose" not in kinds(kept)
    assert run(kept)[1].ravel().tolist() == [1, 8, 8, 16]


def test_what_is_read_in_that_order_stays():
    tiny = Tiny()
    score = peaks(tiny, tiny.stem())
    first = tiny.op("Transpose", "first", score, perm=FIRST)
    model = tiny.model(tiny.op("Relu", "end", first), tiny.op("Relu", "as_it_is", score))
    assert changed(model).graph.node == model.graph.node


def test_what_reads_an_output_or_a_tensor_that_was_never_turned_stays():
    tiny = Tiny()
    turned = tiny.op("Transpose", "last", tiny.stem(), perm=LAST)
    more = tiny.constant("more", np.ones((1, 8, 8, 16), np.float32))
    added = tiny.op("Add", "add", turned, more)
    model = tiny.model(tiny.op("Transpose", "first", added, perm=FIRST))
    assert changed(model).graph.node == model.graph.node


def test_two_in_a_row_are_both_right():
    tiny = Tiny()
    one = tiny.op("Transpose", "last", tiny.stem(), perm=LAST)
    one = tiny.op("Transpose", "first", tiny.op("Relu", "a", one), perm=FIRST)
    two = tiny.op("Transpose", "last_again", tiny.op("Sigmoid", "b", one), perm=LAST)
    two = tiny.op("Transpose", "first_again", tiny.op("Relu", "c", two), perm=FIRST)
    kept = changed(tiny.model(tiny.op("Sigmoid", "end", two)))
    assert kinds(kept) == ["Conv", "Relu", "Sigmoid", "Relu", "Sigmoid"]
