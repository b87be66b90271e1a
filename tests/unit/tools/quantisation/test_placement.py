import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bodypose_tools.graphs.float16 import to_half
from bodypose_tools.graphs.index import OnnxGraph
from bodypose_tools.graphs.quantised import has_unsigned_activations
from bodypose_tools.quantisation.calibration import scales_of
from bodypose_tools.quantisation.placement import Placement, QuantisationError, place, prepare
from bodypose_tools.quantisation.qdq import insert_qdq, int8_weights
from bodypose_tools.quantisation.search import activations
from bodypose_tools.quantisation.settings import Method
from bodypose_tools.runtimes.cpu import int8_warning, openvino_model
from tests.unit.tools.tiny_graphs import Tiny, run


def placed(tiny: Tiny, *outputs: str, float_layers=()) -> Placement:
    return place(prepare(tiny.model(*outputs)), float_layers)


def chain(middle=(16, 16), **options) -> Tiny:
    """stem -> Relu -> middle -> Relu -> head."""
    tiny = Tiny()
    x = tiny.op("Relu", "stem_relu", tiny.stem())
    if middle[0] != 16:
        x = tiny.conv("to_middle", x, (16, middle[0]))
    x = tiny.op("Relu", "middle_relu", tiny.conv("middle", x, middle, **options))
    tiny.conv("head", x, (middle[1], 19))
    return tiny


def test_q_dq_stands_on_a_convolutions_input_and_weights_and_on_nothing_else():
    model = prepare(chain().model("head_out"))
    placement = place(model)
    assert placement.layers == ("middle",)
    assert placement.tensors == ("stem_relu_out",)
    quantised = insert_qdq(model, placement, {"stem_relu_out": 0.02})
    graph = OnnxGraph(quantised)
    kinds = [node.op_type for node in graph.nodes]
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (1, 2)
    middle = next(node for node in graph.nodes if node.name == "middle")
    assert [graph.producer[name].op_type for name in middle.input[:2]] == ["DequantizeLinear"] * 2
    assert middle.input[2] == "middle_b"  # a bias is not quantised
    (relu,) = graph.consumers["middle_out"]
    assert relu.op_type == "Relu"  # nothing between a convolution and its activation


def test_the_first_convolution_and_the_heads_stay_float():
    tiny = chain()
    tiny.conv("other_head", "middle_relu_out", (16, 38))
    assert placed(tiny, "head_out", "other_head_out").layers == ("middle",)


def test_everything_after_the_heads_stays_float():
    tiny = chain()
    peaks = tiny.op("MaxPool", "peaks", "head_out", kernel_shape=[3, 3], pads=[1] * 4)
    tiny.op("Add", "decoded", peaks, "head_out")
    assert placed(tiny, "decoded_out").tensors == ("stem_relu_out",)


def test_weights_are_symmetric_per_output_channel():
    weights = np.float32([[[[0.5, -1.0]]], [[[100.0, 25.0]]], [[[0.0, 0.0]]]])
    whole, scales = int8_weights(weights, axis=0)
    assert whole.reshape(3, 2).tolist() == [[64, -127], [127, 32], [0, 0]]
    assert scales == pytest.approx([1 / 127, 100 / 127, 1.0])


def test_every_zero_point_is_zero_and_activations_have_one_scale():
    model = prepare(chain().model("head_out"))
    stored = insert_qdq(model, place(model), {"stem_relu_out": 0.02}).graph.initializer
    zeros = [numpy_helper.to_array(t) for t in stored if "zero" in t.name]
    assert len(zeros) == 2
    assert all(z.dtype == np.int8 and not z.any() for z in zeros)
    (scale,) = [t for t in stored if t.name == "stem_relu_out_scale"]
    assert numpy_helper.to_array(scale).shape == ()


def test_weights_that_are_not_constant_are_skipped():
    tiny = Tiny()
    x = tiny.op("Relu", "stem_relu", tiny.stem())
    x = tiny.op("MatMul", "product", x, x)
    tiny.conv("head", x, (16, 19))
    assert placed(tiny, "head_out").layers == ()


def test_weights_that_are_stored_as_float16_are_constants():
    tiny = chain()
    values = next(t for t in tiny.stored if t.name == "middle_w")
    values.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(values).astype("f2"), "half_w"))
    cast = onnx.helper.make_node("Cast", ["half_w"], ["middle_w"], to=onnx.TensorProto.FLOAT)
    tiny.nodes.insert(0, cast)
    model = prepare(tiny.model("head_out"))
    quantised = insert_qdq(model, place(model), {"stem_relu_out": 0.02})
    assert "half_w" not in {tensor.name for tensor in quantised.graph.initializer}


@pytest.mark.parametrize(
    ("channels", "options", "quantised"),
    [
        ((16, 16), {}, True),
        ((16, 19), {}, True),
        ((8, 19), {}, True),  # 8 fills a vector, and the other side is wide
        ((8, 8), {}, False),
        ((7, 19), {}, False),
        ((8, 16), {}, True),
        ((8, 15), {}, False),
        ((15, 16), {}, True),
        ((15, 17), {}, False),
        ((12, 20), {}, False),
        ((15, 15), {"kernel": 3, "group": 15}, False),
        ((16, 16), {"kernel": 3, "group": 16}, True),
        ((8, 8), {"kernel": 3, "group": 8}, False),
    ],
)
def test_narrow_convolutions_stay_float(channels, options, quantised):
    layers = placed(chain(channels, **options), "head_out").layers
    assert ("middle" in layers) is quantised


def residual(skip_reader: bool = True) -> Tiny:
    """stem -> a -> b, a + b -> Relu -> c -> head; c keeps the addition before the heads."""
    tiny = Tiny()
    a = tiny.conv("a", tiny.stem(), (16, 16))
    b = tiny.conv("b", a if skip_reader else "stem_out", (16, 16))
    x = tiny.op("Relu", "sum_relu", tiny.op("Add", "sum", a, b))
    tiny.conv("head", tiny.conv("c", x, (16, 16)), (16, 19))
    return tiny


def test_a_residual_addition_gets_q_dq_on_its_skip_input_only():
    placement = placed(residual(), "head_out")
    assert {(name, index) for name, index in placement.inputs if name == "sum"} == {("sum", 0)}


def test_for_cpus_the_skip_input_stays_float():
    placement = place(prepare(residual().model("head_out")), unsigned=True)
    assert not [name for name, _ in placement.inputs if name == "sum"]
    assert {"b", "c"} <= set(placement.layers)


def test_of_two_convolutions_the_later_one_fuses_with_the_addition():
    placement = placed(residual(skip_reader=False), "head_out")
    assert ("sum", 0) in placement.inputs
    assert ("sum", 1) not in placement.inputs


@pytest.mark.parametrize(
    ("float_layers", "is_int8"), [(["wide", "narrow"], False), (["wide"], True), (["narrow"], True)]
)
def test_for_cpus_a_depthwise_convolution_between_float_layers_stays_float(float_layers, is_int8):
    tiny = Tiny()
    x = tiny.op("Relu", "wide_relu", tiny.conv("wide", tiny.stem(), (16, 32)))
    x = tiny.op("Relu", "depthwise_relu", tiny.conv("depthwise", x, (32, 32), 3, group=32))
    x = tiny.conv("after", tiny.conv("narrow", x, (32, 16)), (16, 16))
    model = prepare(tiny.model(tiny.conv("head", x, (16, 19))))
    assert ("depthwise" in place(model, float_layers, unsigned=True).layers) is is_int8
    assert "depthwise" in place(model, float_layers).layers
    assert "after" in place(model, float_layers, unsigned=True).layers


def test_an_addition_with_a_float_convolution_stays_float():
    placement = placed(residual(), "head_out", float_layers=["b"])
    assert not [name for name, _ in placement.inputs if name == "sum"]


def test_an_addition_of_a_constant_stays_float():
    tiny = Tiny()
    shift = tiny.constant("shift", np.float32(0.5))
    x = tiny.op("Add", "shifted", tiny.stem(), shift)
    tiny.conv("head", tiny.conv("a", x, (16, 16)), (16, 19))
    assert placed(tiny, "head_out").inputs == {("a", 0)}


def joined(act: str = "Relu", *ends: float) -> Tiny:
    """stem -> a -> act -> b -> act; both meet in a concatenation, which c reads, then the head."""
    tiny = Tiny()
    ends = [tiny.constant(f"end_{end}", np.float32(end)) for end in ends]
    a = tiny.op(act, "a_act", tiny.conv("a", tiny.stem(), (16, 16), kernel=3), *ends)
    b = tiny.op(act, "b_act", tiny.conv("b", a, (16, 16)), *ends)
    both = tiny.op("Concat", "both", a, b, axis=1)
    x = tiny.op("Relu", "c_relu", tiny.conv("c", both, (32, 16), kernel=3))
    tiny.conv("head", x, (16, 19))
    return tiny


JOINED = {"stem_out": 0.1, "a_act_out": 0.1, "b_act_out": 0.3}


def test_concatenated_tensors_share_the_largest_scale_and_meet_in_int8():
    model = prepare(joined().model("head_out"))
    placement = place(model)
    assert placement.shared == (frozenset({"a_act_out", "b_act_out", "both_out"}),)
    assert placement.tensors == tuple(JOINED)  # the joined one needs no scale of its own
    quantised = insert_qdq(model, placement, JOINED)
    stored = {t.name: t for t in quantised.graph.initializer}
    for name, expected in (("stem", 0.1), ("a_act", 0.3), ("b_act", 0.3), ("both", 0.3)):
        assert numpy_helper.to_array(stored[f"{name}_out_scale"]) == np.float32(expected)
    graph = OnnxGraph(quantised)
    assert "both" not in {node.name for node in graph.nodes}  # nobody reads the float one
    (both,) = [node for node in graph.nodes if node.name == "both_int8"]
    assert [graph.producer[name].op_type for name in both.input] == ["QuantizeLinear"] * 2
    assert [node.op_type for node in graph.readers(both)] == ["DequantizeLinear"]


def test_float_readers_of_a_concatenation_have_a_float_one():
    tiny = joined("Clip", 0, 6)
    tiny.conv("other_head", "both_out", (32, 19))
    model = prepare(tiny.model("head_out", "other_head_out"))
    graph = OnnxGraph(insert_qdq(model, place(model), dict.fromkeys(JOINED, 0.01)))
    by_name = {node.name: node for node in graph.nodes}
    assert list(by_name["other_head"].input)[:1] == list(by_name["both"].output)
    assert list(by_name["both"].input) == ["a_act_out", "b_act_out"]
    assert by_name["both_int8"].op_type == "Concat"
    assert by_name["b_act"].op_type == "Clip"  # the float one must not see more than 6


def test_a_concatenation_with_a_constant_has_q_dq_behind_it():
    tiny = Tiny()
    fixed = tiny.constant("fixed", np.ones((1, 16, 8, 8), np.float32))
    both = tiny.op("Concat", "both", tiny.stem(), fixed, axis=1)
    tiny.conv("head", tiny.conv("a", both, (32, 16)), (16, 19))
    assert placed(tiny, "head_out").tensors == ("both_out",)


def test_concatenations_of_concatenations_have_one_scale():
    tiny = joined()
    d = tiny.op("Relu", "d_relu", tiny.conv("d", "c_relu_out", (16, 16)))
    wide = tiny.op("Concat", "wide", "both_out", d, axis=1)
    tiny.conv("last_head", tiny.conv("e", wide, (48, 16)), (16, 19))
    model = prepare(tiny.model("last_head_out"))
    placement = place(model)
    assert placement.shared == (
        frozenset({"a_act_out", "b_act_out", "both_out", "d_relu_out", "wide_out"}),
    )
    scales = {**JOINED, "c_relu_out": 0.1, "d_relu_out": 0.2}
    stored = {t.name: t for t in insert_qdq(model, placement, scales).graph.initializer}
    assert numpy_helper.to_array(stored["wide_out_scale"]) == np.float32(0.3)


def test_a_head_that_a_later_stage_reads_stays_float():
    tiny = chain()
    tiny.conv("late", tiny.conv("again", "head_out", (19, 16)), (16, 19))
    tiny.op("Add", "sum", "head_out", "late_out")
    placement = placed(tiny, "sum_out")
    assert placement.layers == ("middle", "again")
    assert not [name for name, _ in placement.inputs if name == "sum"]


@pytest.mark.parametrize(
    ("scale", "kind"),
    [(6 / 127, "Relu"), (3 / 127, "Relu"), (6.1 / 127, "Clip")],
)
def test_a_clip_that_every_quantiser_does_again_becomes_a_relu(scale, kind):
    model = prepare(joined("Clip", 0, 6).model("head_out"))
    quantised = insert_qdq(model, place(model), {**JOINED, "a_act_out": 0.01, "b_act_out": scale})
    kinds = {node.name: node.op_type for node in quantised.graph.node}
    assert (kinds["a_act"], kinds["b_act"]) == (kind, kind)


def test_a_clip_that_a_float_layer_reads_or_that_is_not_from_0_stays():
    tiny = joined("Clip", 0, 6)
    tiny.conv("other_head", "b_act_out", (16, 19))
    model = prepare(tiny.model("head_out", "other_head_out"))
    quantised = insert_qdq(model, place(model), dict.fromkeys(JOINED, 0.01))
    kinds = {node.name: node.op_type for node in quantised.graph.node}
    assert (kinds["a_act"], kinds["b_act"]) == ("Relu", "Clip")
    model = prepare(joined("Clip", -1, 6).model("head_out"))
    kinds = [n.op_type for n in insert_qdq(model, place(model), JOINED).graph.node]
    assert kinds.count("Clip") == 2


@pytest.mark.parametrize(
    ("scale", "kind"), [(6 / 127, "Relu"), (6.02 / 127, "Clip"), (6.1 / 127, "Clip")]
)
def test_an_unsigned_quantiser_does_the_clip_again_up_to_half_of_its_finer_step(scale, kind):
    model = prepare(joined("Clip", 0, 6).model("head_out"))
    placement = place(model, unsigned=True)
    quantised = insert_qdq(model, placement, {**JOINED, "a_act_out": 0.01, "b_act_out": scale})
    assert {node.name: node.op_type for node in quantised.graph.node}["b_act"] == kind


def test_what_is_never_negative_may_have_the_levels_0_to_255():
    """Half the distance between levels, from 0 to the same largest value."""
    model = prepare(chain().model("head_out"))
    assert place(model).unsigned == frozenset()
    placement = place(model, unsigned=True)
    assert placement.unsigned == {"stem_relu_out"}
    quantised = insert_qdq(model, placement, {"stem_relu_out": 0.02})
    assert has_unsigned_activations(quantised)
    assert not has_unsigned_activations(insert_qdq(model, place(model), {"stem_relu_out": 0.02}))
    graph = OnnxGraph(quantised)
    (quantiser,) = [node for node in graph.nodes if node.op_type == "QuantizeLinear"]
    step, zero = (graph.constant(name) for name in quantiser.input[1:])
    assert step * 255 == pytest.approx(0.02 * 127)
    assert (zero.dtype, int(zero)) == (np.uint8, 0)


def test_what_may_be_negative_stays_signed_and_so_does_all_that_it_meets():
    """In a concatenation all have one scale, and one type."""
    act = place(prepare(joined("Clip", -1, 6).model("head_out")), unsigned=True)
    assert act.unsigned == frozenset()
    one = joined("Relu")
    (b_act,) = [node for node in one.nodes if node.name == "b_act"]
    b_act.op_type = "Tanh"  # the other side of the concatenation is a ReLU
    assert "a_act_out" in place(prepare(one.model("head_out"))).tensors
    assert place(prepare(one.model("head_out")), unsigned=True).unsigned == frozenset()
    positive = place(prepare(joined("Relu").model("head_out")), unsigned=True)
    (met,) = positive.shared
    assert met <= positive.unsigned


@pytest.mark.skipif(int8_warning() is not None, reason=str(int8_warning()))
@pytest.mark.parametrize("act", [("Relu",), ("Clip", 0, 6)])
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("float_layers", [(), ("a",), ("b",), ("c",)])
def test_openvino_and_onnx_runtime_agree_about_the_quantised_graph(
    act, unsigned, float_layers, tmp_path
):
    """OpenVINO once rounded the inputs of a concatenation to integers, or worse after ReLU6."""
    pytest.importorskip("openvino")
    model = prepare(joined(*act).model("head_out"))
    placement = place(model, float_layers, unsigned=unsigned)
    image = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)  # as `run`'s
    scales = scales_of(
        placement.tensors, activations(model, placement.tensors), [image], Method.MAX
    )
    quantised = insert_qdq(model, placement, scales)
    onnx.save(quantised, tmp_path / "int8.onnx")
    compiled = openvino_model(tmp_path / "int8.onnx")
    got = np.asarray(compiled([image[None]])["head_out"])
    expected = run(quantised)[0]
    assert np.abs(got - expected).mean() < 0.01 * np.abs(expected).mean()


@pytest.mark.parametrize("group", [1, 2, 16])
def test_a_bias_takes_back_what_rounded_weights_add(group):
    """Inputs that are their means everywhere give the outputs that float weights give."""
    tiny = chain(kernel=3, group=group)
    model = prepare(tiny.model("head_out"))
    placement = place(model)
    image = np.random.default_rng(1).normal(size=(3, 1, 1)).astype(np.float32)
    flat = np.broadcast_to(image, (3, 8, 8))
    (read,) = activations(model, ["stem_relu_out"])(flat)
    scales = {"stem_relu_out": float(read.max()) / 127}
    means = {"stem_relu_out": read.mean(axis=(0, 2, 3))}
    expected = activations(model, ["middle_out"])(flat)[0]

    def error(**given) -> float:
        quantised = insert_qdq(model, placement, scales, **given)
        # Without the inputs' own rounding.
        (middle,) = [node for node in quantised.graph.node if node.name == "middle"]
        middle.input[0] = "stem_relu_out"
        gaps = np.abs(activations(quantised, ["middle_out"])(flat)[0] - expected)
        return float(gaps[..., 1:-1, 1:-1].max())  # at the border a kernel meets zeros

    assert error(means=means) < 2e-5 < 1e-3 < error()


def test_a_convolution_without_a_bias_gets_one():
    tiny = chain()
    (middle,) = [node for node in tiny.nodes if node.name == "middle"]
    del middle.input[2:]
    model = prepare(tiny.model("head_out"))
    scales = {"stem_relu_out": 0.02}
    quantised = insert_qdq(model, place(model), scales, {"stem_relu_out": np.ones(16, np.float32)})
    stored = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    weights = numpy_helper.to_array(next(t for t in tiny.stored if t.name == "middle_w"))
    whole, steps = int8_weights(weights, axis=0)
    added = (whole[..., 0, 0] * steps[:, None] - weights[..., 0, 0]).sum(axis=1)
    assert stored["middle_corrected_bias"] == pytest.approx(-added, abs=1e-6)


def test_resizes_and_clips_pass_int8_through():
    tiny = Tiny()
    a = tiny.conv("a", tiny.stem(), (16, 16))
    low, high = tiny.constant("low", np.float32(0)), tiny.constant("high", np.float32(6))
    x = tiny.op("Clip", "clip", a, low, high)
    x = tiny.op("Resize", "up", x, "", tiny.constant("sides", np.float32([1, 1, 2, 2])))
    tiny.conv("head", tiny.conv("c", x, (16, 16)), (16, 19))
    assert placed(tiny, "head_out").inputs == {("a", 0), ("c", 0)}


def test_pools_inside_the_network_read_int8():
    tiny = Tiny()
    a = tiny.conv("a", tiny.stem(), (16, 16))
    x = tiny.op("MaxPool", "pool", a, kernel_shape=[2, 2])
    tiny.conv("head", tiny.conv("c", x, (16, 16)), (16, 19))
    assert ("pool", 0) in placed(tiny, "head_out").inputs


def batch_normed() -> Tiny:
    tiny = Tiny()
    x = tiny.conv("a", tiny.stem(), (16, 16))
    parameters = [
        tiny.constant(name, tiny.rng.uniform(0.5, 2, 16).astype(np.float32))
        for name in ("scale", "shift", "mean", "variance")
    ]
    x = tiny.op("BatchNormalization", "norm", x, *parameters)
    tiny.conv("head", tiny.op("Relu", "relu", x), (16, 19))
    return tiny


def test_batch_norm_is_folded_before():
    model = batch_normed().model("head_out")
    folded = prepare(model)
    assert "BatchNormalization" not in [node.op_type for node in folded.graph.node]
    assert np.allclose(run(model)[0], run(folded)[0], atol=1e-4)


def test_what_is_quantised_computes_almost_the_same():
    model = prepare(residual().model("head_out"))
    placement = place(model)
    image = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)  # as `run`'s
    values = activations(model, placement.tensors)
    scales = scales_of(placement.tensors, values, [image], Method.MAX)
    expected, got = run(model)[0], run(insert_qdq(model, placement, scales))[0]
    assert 0 < np.abs(expected - got).max() < 0.1 * np.abs(expected).max()


def test_layers_that_are_asked_to_stay_float_do_and_unknown_ones_are_named():
    assert placed(residual(), "head_out", float_layers=["b", "c"]).layers == ("a",)
    with pytest.raises(QuantisationError, match="nobody"):
        placed(residual(), "head_out", float_layers=["nobody"])


def test_an_old_opset_and_a_quantised_graph_are_refused():
    model = prepare(chain().model("head_out"))
    with pytest.raises(QuantisationError, match="got one with QuantizeLinear"):
        prepare(insert_qdq(model, place(model), {"stem_relu_out": 0.02}))
    model.opset_import[0].version = 10
    with pytest.raises(QuantisationError, match="opset 13 or newer, got 10"):
        prepare(model)


def test_half_precision_keeps_float_inputs_outputs_and_decoding():
    tiny = chain()
    tiny.op("Exp", "decoded", "head_out")
    model = tiny.model("decoded_out", "head_out")
    half = to_half(model)
    types = {value.name: value.type.tensor_type.elem_type for value in half.graph.output}
    assert set(types.values()) == {onnx.TensorProto.FLOAT}
    graph = OnnxGraph(half)
    for layer in ("stem", "middle", "head"):
        node = next(node for node in graph.nodes if node.name == layer)
        assert graph.constant(node.input[1]).dtype == np.float16
    (decoded,) = [node for node in graph.nodes if node.name == "decoded"]
    assert graph.producer[decoded.input[0]].op_type == "Cast"
    for one, other in zip(run(model), run(half), strict=True):
        assert np.allclose(one, other, rtol=0.02, atol=0.05 * np.abs(one).mean())


def added(kind: str) -> Tiny:
    """stem -> Relu on one side and `kind` on the other meet in an addition that a pool reads."""
    tiny = Tiny()
    stem = tiny.stem()
    one, other = tiny.op("Relu", "one", stem), tiny.op(kind, "other", stem)
    x = tiny.op("MaxPool", "pool", tiny.op("Add", "sum", one, other), kernel_shape=[2, 2])
    x = tiny.op("Relu", "middle_relu", tiny.conv("middle", x, (16, 16)))
    tiny.conv("head", x, (16, 19))
    return tiny


@pytest.mark.parametrize(("kind", "is_unsigned"), [("Relu", True), ("Tanh", False)])
def test_a_sum_is_never_negative_when_both_sides_are(kind, is_unsigned):
    unsigned = place(prepare(added(kind).model("head_out")), unsigned=True).unsigned
    assert {"sum_out", "pool_out"} & unsigned == ({"sum_out", "pool_out"} if is_unsigned else set())
    assert "middle_relu_out" not in unsigned  # only the head reads it, in float


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
def test_a_matrix_product_has_a_scale_for_each_of_its_outputs(kind, transposed):
    """16 inputs, 24 outputs; output n's weights are n + 1 times as large."""
    tiny = Tiny()
    x = tiny.op("GlobalAveragePool", "mean", tiny.op("Relu", "stem_relu", tiny.stem()))
    x = tiny.op("Flatten", "flat", x)
    weights = tiny.rng.uniform(0.5, 1, (16, 24)).astype(np.float32) * np.arange(1, 25)
    turned = transposed and kind == "Gemm"
    stored = tiny.constant("w", (weights.T if turned else weights).astype(np.float32))
    attributes = {"transB": transposed} if kind == "Gemm" else {}
    x = tiny.op("Relu", "product_relu", tiny.op(kind, "product", x, stored, **attributes))
    tiny.op(kind, "head", x, tiny.constant("head_w", np.ones((24, 19), np.float32)))
    model = tiny.model("head_out", rank=2)
    model = prepare(model)
    placement = place(model)
    assert placement.layers == ("product",)

    quantised = insert_qdq(model, placement, dict.fromkeys(placement.tensors, 0.02))

    graph = OnnxGraph(quantised)
    scales = graph.constant("product_weights_scale")
    assert scales == pytest.approx(weights.max(axis=0) / 127)
    (back,) = [node for node in graph.nodes if node.name == "product_weights_dequantize"]
    (axis,) = [entry.i for entry in back.attribute if entry.name == "axis"]
    assert axis == (0 if turned else 1)


def test_a_convolution_that_others_read_too_does_not_fuse_with_an_addition():
    tiny = residual()
    tiny.conv("other_head", "b_out", (16, 19))
    inputs = placed(tiny, "head_out", "other_head_out").inputs
    assert {index for name, index in inputs if name == "sum"} == {0, 1}
