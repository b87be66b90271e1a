import numpy as np
from onnx import helper, numpy_helper

from bodypose_tools.graphs.index import OnnxGraph, macs_of
from tests.unit.tools.tiny_graphs import Tiny


def test_macs_are_weights_times_the_cells_that_each_meets():
    tiny = Tiny()
    a = tiny.conv("a", tiny.stem(), (16, 8), kernel=3)
    a = tiny.conv("b", a, (8, 8), kernel=3, group=8)
    weights = tiny.constant("up_w", np.ones((8, 4, 2, 2), np.float32))
    tiny.op("ConvTranspose", "up", a, weights, strides=[2, 2])
    cells = 8 * 8
    assert macs_of(tiny.model("up_out")) == {
        "stem": 3 * 16 * cells,
        "a": 16 * 8 * 9 * cells,
        "b": 8 * 9 * cells,
        "up": 8 * 4 * 2 * 2 * cells,  # of the input: each cell becomes 2 x 2
    }


def test_a_layer_of_unknown_size_counts_its_weights():
    tiny = Tiny()
    tiny.conv("a", tiny.stem(), (16, 8))
    model = tiny.model("a_out")
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_param = "side"
    assert macs_of(model) == {"stem": 3 * 16, "a": 16 * 8}


def test_heads_lead_to_an_output_past_no_other_weights_even_when_layers_read_them():
    tiny = Tiny()
    early = tiny.conv("early", tiny.conv("a", tiny.stem(), (16, 16)), (16, 19))
    late = tiny.conv("late", tiny.conv("b", early, (19, 16)), (16, 19))
    tiny.op("Add", "sum", early, late)
    graph = OnnxGraph(tiny.model("sum_out"))
    assert graph.leading_to_outputs() == {"early", "late", "sum"}
    assert graph.leading_to_weights() == {"stem", "a", "early", "b"}
    assert graph.following_weights() == {"a", "early", "b", "late", "sum"}


def test_a_constant_that_is_cast_has_its_readers_type():
    tiny = Tiny()
    tiny.stem()
    stored = next(t for t in tiny.stored if t.name == "stem_w")
    stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored).astype("f2"), "half"))
    tiny.nodes.insert(0, helper.make_node("Cast", ["half"], ["stem_w"], to=1))
    graph = OnnxGraph(tiny.model("stem_out"))
    assert graph.constant("stem_w").dtype == np.float32
