import numpy as np
import pytest
from onnx import numpy_helper

from bodypose_tools.graphs.index import OnnxGraph
from bodypose_tools.quantisation.equalisation import (
    channel_ranges,
    channels_of,
    equalise,
    scalable_tensors,
)
from bodypose_tools.quantisation.placement import place, prepare
from bodypose_tools.quantisation.qdq import insert_qdq
from bodypose_tools.quantisation.search import activations
from tests.unit.tools.tiny_graphs import Tiny, run

IMAGES = [np.random.default_rng(n).normal(size=(3, 8, 8)).astype(np.float32) for n in range(1, 5)]


def uneven(tiny: Tiny, layer: str) -> None:
    """Make the channels of a layer's output differ by up to a thousand."""
    factors = np.geomspace(0.01, 10, 16).astype(np.float32)
    for name in (f"{layer}_w", f"{layer}_b"):
        stored = next(t for t in tiny.stored if t.name == name)
        values = numpy_helper.to_array(stored)
        values = values * factors.reshape(-1, *[1] * (values.ndim - 1))
        stored.CopyFrom(numpy_helper.from_array(values, name))


def clip(tiny: Tiny, name: str, tensor: str) -> str:
    ends = [tiny.constant(f"{name}_{end}", np.float32(end)) for end in (0, 6)]
    return tiny.op("Clip", name, tensor, *ends)


def mobile() -> Tiny:
    """stem -> (expand -> ReLU6 -> depthwise -> ReLU6 -> project) + stem -> last -> head."""
    tiny = Tiny()
    stem = tiny.stem()
    x = clip(tiny, "expand_relu", tiny.conv("expand", stem, (16, 16)))
    x = clip(tiny, "depthwise_relu", tiny.conv("depthwise", x, (16, 16), kernel=3, group=16))
    total = tiny.op("Add", "total", stem, tiny.conv("project", x, (16, 16)))
    x = tiny.op("Relu", "last_relu", tiny.conv("last", total, (16, 16), kernel=3))
    x = tiny.conv("linear", x, (16, 16), kernel=3, group=16)
    up = tiny.op("Resize", "up", x, "", tiny.constant("sides", np.float32([1, 1, 2, 2])))
    tiny.conv("head", up, (16, 19))
    for layer in ("stem", "project", "last", "linear", "expand"):
        uneven(tiny, layer)
    return tiny


def equalised(tiny: Tiny, *outputs: str):
    model = prepare(tiny.model(*outputs))
    names = scalable_tensors(model, [name for node in model.graph.node for name in node.output])
    ranges = channel_ranges(names, activations(model, names), IMAGES)
    return model, equalise(model, ranges)


def spread(model, tensor: str) -> float:
    """How far a tensor's largest channel reaches against its middle one."""
    (ranges,) = channel_ranges([tensor], activations(model, [tensor]), IMAGES).values()
    return float(ranges.max() / np.median(ranges))


def test_outputs_stay_equal_through_depthwise_additions_and_relu6():
    model, even = equalised(mobile(), "head_out")
    expected, got = run(model)[0], run(even)[0]
    assert np.abs(expected - got).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("tensor", ["total_out", "last_relu_out", "linear_out"])
def test_channels_that_only_convolutions_see_come_together(tensor):
    model, even = equalised(mobile(), "head_out")
    assert spread(even, tensor) < spread(model, tensor) / 4


def test_both_sides_of_an_addition_have_the_same_factors():
    graph = OnnxGraph(prepare(mobile().model("head_out")))
    numbers = channels_of(graph).of
    assert numbers["stem_out"].tolist() == numbers["project_out"].tolist()
    assert numbers["total_out"].tolist() == numbers["stem_out"].tolist()
    assert not set(numbers["last_out"]) & set(numbers["stem_out"])


def test_what_a_clip_or_an_output_sees_stays_as_it_is():
    model, even = equalised(mobile(), "head_out", "last_relu_out")
    for tensor in ("expand_out", "depthwise_relu_out", "last_relu_out", "head_out"):
        (before,) = activations(model, [tensor])(IMAGES[0])
        (after,) = activations(even, [tensor])(IMAGES[0])
        assert np.allclose(before, after, rtol=1e-4, atol=1e-4)


def test_factors_are_powers_of_two():
    model, even = equalised(mobile(), "head_out")
    before, after = (OnnxGraph(m).constant for m in (model, even))
    ratio = after("last_equalised_bias") / before("last_b")
    exponents = np.log2(ratio)
    assert np.allclose(exponents, np.rint(exponents), atol=1e-5)
    assert np.ptp(exponents) > 1


def test_convolutions_that_share_weights_still_do_and_are_stored_once():
    tiny = Tiny()
    for name in ("once", "again"):
        before = tiny.conv(
            f"{name}_before", tiny.stem() if name == "once" else "stem_out", (16, 16)
        )
        tiny.conv(name, before, (16, 16))
    again = next(node for node in tiny.nodes if node.name == "again")
    again.input[1] = "once_w"
    uneven(tiny, "once")
    uneven(tiny, "again_before")
    tiny.conv("one_head", "once_out", (16, 19))
    tiny.conv("other_head", "again_out", (16, 19))
    model, even = equalised(tiny, "one_head_out", "other_head_out")
    for before, after in zip(run(model), run(even), strict=True):
        assert np.allclose(before, after, rtol=1e-4, atol=1e-3)
    graph = OnnxGraph(even)
    kernels = [graph.constant(f"{name}_equalised_weights") for name in ("once", "again")]
    assert np.array_equal(*kernels)
    names = place(even).tensors
    small = insert_qdq(even, place(even), dict.fromkeys(names, 0.1))
    stored = {node.input[0] for node in small.graph.node if "weights_dequantize" in node.name}
    assert "once_weights_int8" in stored
    assert "again_weights_int8" not in stored


def test_channels_keep_their_places_in_a_concatenation():
    tiny = Tiny()
    a = tiny.op("Relu", "a_relu", tiny.conv("a", tiny.stem(), (16, 16)))
    b = tiny.op("Relu", "b_relu", tiny.conv("b", "stem_out", (16, 16)))
    both = tiny.op("Concat", "both", a, b, axis=1)
    tiny.conv("head", tiny.conv("c", both, (32, 16)), (16, 19))
    uneven(tiny, "b")
    model, even = equalised(tiny, "head_out")
    assert np.allclose(run(model)[0], run(even)[0], rtol=1e-4, atol=1e-4)
    assert spread(even, "both_out") < spread(model, "both_out")


def test_what_a_sigmoid_or_a_product_with_a_tensor_reads_is_not_scaled():
    tiny = Tiny()
    a = tiny.conv("a", tiny.stem(), (16, 16))
    gate = tiny.op("Sigmoid", "gate", tiny.conv("b", "stem_out", (16, 16)))
    tiny.conv("head", tiny.op("Mul", "gated", a, gate), (16, 19))
    for layer in ("a", "b"):
        uneven(tiny, layer)
    model, even = equalised(tiny, "head_out")
    for tensor in ("a_out", "b_out", "head_out"):
        (before,), (after,) = (activations(m, [tensor])(IMAGES[0]) for m in (model, even))
        assert np.allclose(before, after, rtol=1e-4, atol=1e-4)


def stored_as(tiny: Tiny, name: str, values) -> None:
    next(t for t in tiny.stored if t.name == name).CopyFrom(
        numpy_helper.from_array(np.asarray(values, np.float32), name)
    )


def divisors(ranges, share=1.0, read_by=None, kernel=1, group=1):
    """By what the 16 channels between two convolutions are divided, from their ranges."""
    tiny = Tiny()
    x = tiny.op("Relu", "a_relu", tiny.conv("a", tiny.stem(), (16, 16)))
    x = tiny.conv("b", x, (16, 16), kernel=kernel, group=group)
    tiny.conv("head", x, (16, 19))
    if read_by is not None:
        weights = np.zeros((16, 16, 1, 1))
        weights[3, :, 0, 0] = read_by
        stored_as(tiny, "b_w", -weights)
    stored_as(tiny, "a_b", np.ones(16))
    model = prepare(tiny.model("head_out"))
    even = equalise(model, {"a_relu_out": np.float32(ranges)}, share)
    graph = OnnxGraph(even)
    names = {name for node in graph.nodes for name in node.input}
    if "a_equalised_bias" not in names:
        return np.ones(16).tolist()
    return (1 / graph.constant("a_equalised_bias")).tolist()


ALIKE = [8.0] * 12


def test_a_channel_is_divided_by_its_share_of_the_largest_range():
    found = divisors([*ALIKE, 4, 1.1, 8 * 2.0**-10, 8 * 2.0**-14])
    assert found == [1] * 12 + [0.5, 0.125, 2.0**-10, 2.0**-10]


def test_factors_are_rounded_in_octaves():
    found = divisors([*ALIKE, 8 * 2**-0.4, 8 * 2**-0.6, 8, 8])
    assert found == [1] * 12 + [1, 0.5, 1, 1]


def test_ranges_that_are_alike_or_zero_change_nothing():
    assert divisors([8.0] * 16) == [1] * 16
    assert divisors([0.0] * 16) == [1] * 16


def test_a_part_of_the_range_stays_where_large_weights_read_it():
    """Three quarters of a range move; a weight of 16 holds 16 ** 0.25 = 2 of it back."""
    read_by = [1.0] * 12 + [1, 16, 1, 1]
    ranges = [16.0] * 12 + [1, 1, 16, 16]
    # made: 8 for the large, 1, and 0.5 where 16 reads it; the largest of range / made is 2.
    found = divisors(ranges, 0.75, read_by)
    assert found == [1] * 12 + [0.125, 0.0625, 1, 1]


def test_depthwise_readers_trade_nothing():
    ranges = [16.0] * 12 + [1, 4, 16, 16]
    found = divisors(ranges, 0.75, kernel=3, group=16)
    assert found == [1] * 12 + [0.0625, 0.25, 1, 1]


def test_a_channel_that_meets_channels_which_stay_reaches_as_far_as_they_do():
    """In a concatenation with the graph's output, which may not be scaled and reaches 4."""
    tiny = Tiny()
    a = tiny.conv("a", tiny.stem(), (16, 16))
    b = tiny.conv("b", "stem_out", (16, 16))
    tiny.conv("head", tiny.op("Concat", "both", a, b, axis=1), (32, 19))
    stored_as(tiny, "a_b", np.ones(16))
    model = prepare(tiny.model("head_out", "b_out"))
    ranges = {"a_out": np.full(16, 16, np.float32), "b_out": np.full(16, 4, np.float32)}
    even = equalise(model, ranges, 1.0)
    assert (1 / OnnxGraph(even).constant("a_equalised_bias")).tolist() == [4] * 16
    assert run(model)[0] == pytest.approx(run(even)[0], rel=1e-4, abs=1e-4)


def test_the_range_of_a_channel_is_its_largest_value_of_all_images():
    def activations_of(image):
        return [np.float32([[[[1, -2]], [[3, 0]]]]) * float(image), np.float32([[-4, 5]]) / image]

    found = channel_ranges(["field", "vector"], activations_of, [1.0, 2.0, 0.5])

    assert found["field"].tolist() == [4, 6]
    assert found["vector"].tolist() == [8, 10]


def test_transposed_and_uneven_convolutions_are_followed_along_the_right_axes():
    tiny = Tiny()
    x = tiny.op("Relu", "a_relu", tiny.conv("a", tiny.stem(), (16, 8)))
    tiny.conv("head", tiny.conv("b", x, (8, 4)), (4, 19))
    graph = OnnxGraph(prepare(tiny.model("head_out")))
    channels = channels_of(graph)
    sizes = {name: len(channels.of[name]) for name in ("stem_out", "a_out", "b_out", "head_out")}
    assert sizes == {"stem_out": 16, "a_out": 8, "b_out": 4, "head_out": 19}
    assert channels.of["a_relu_out"].tolist() == channels.of["a_out"].tolist()
    assert set(channels.of["head_out"].tolist()) == channels.fixed
    model, even = equalised(tiny, "head_out")
    assert run(model)[0] == pytest.approx(run(even)[0], rel=1e-4, abs=1e-4)


def test_layers_without_a_factor_keep_their_weights():
    model = prepare(mobile().model("head_out"))
    names = scalable_tensors(model, [name for node in model.graph.node for name in node.output])
    seen = channel_ranges(names, activations(model, names), IMAGES)
    even = equalise(model, {name: np.ones_like(ranges) for name, ranges in seen.items()})
    assert len(seen) > 5
    assert [node.input[1:] for node in even.graph.node] == [
        node.input[1:] for node in model.graph.node
    ]
