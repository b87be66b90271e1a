"""A transposed convolution as a convolution and a rearrangement computes the same."""

import numpy as np
import onnx
import pytest

from bodypose_tools.graphs.transposed_convolution import rearrange_convolutions
from tests.unit.tools.tiny_graphs import Tiny, run


def transposed(size: int = 2, channels: int = 5, bias: bool = True, group: int = 1, **attributes):
    tiny = Tiny()
    shape = (16, channels, size, size)
    names = [tiny.constant("kernel", tiny.rng.normal(size=shape).astype(np.float32))]
    if bias:
        values = tiny.rng.normal(size=channels * group).astype(np.float32)
        names.append(tiny.constant("bias", values))
    attributes = {"strides": [size, size], "group": group, **attributes}
    made = tiny.op("ConvTranspose", "larger", tiny.stem(), *names, **attributes)
    return tiny.model(tiny.op("Sigmoid", "end", made))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_cells_that_stay_apart_are_channels_of_a_convolution(size, bias):
    model = transposed(size, bias=bias)
    before = model.SerializeToString()
    rearranged = rearrange_convolutions(model)
    onnx.checker.check_model(rearranged, full_check=True)
    kinds = {node.name: node.op_type for node in rearranged.graph.node}
    assert kinds["larger"] == "Conv"
    assert list(kinds.values()) == ["Conv", "Conv", "DepthToSpace", "Sigmoid"]
    assert "kernel" not in {tensor.name for tensor in rearranged.graph.initializer}
    np.testing.assert_allclose(run(model), run(rearranged), rtol=0, atol=1e-6)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [1, 1]},
        {"strides": [2, 1]},
        {"pads": [1, 1, 0, 0]},
        {"output_padding": [1, 1]},
        {"dilations": [2, 2]},
        {"group": 4},
        {"auto_pad": "SAME_UPPER"},
    ],
)
def test_any_other_stays_as_it_is(attributes):
    model = transposed(**attributes)
    assert rearrange_convolutions(model).graph.node == model.graph.node
