"""An image is resized by picking rows and columns, and its pixels are the same."""

import numpy as np
import onnx
import pytest

from bodypose_tools.graphs.resized_images import resize_by_picking
from bodypose_tools.graphs.storage import round_scales_up
from tests.unit.tools.tiny_graphs import Tiny, run

PIXEL = 1e-5  # pixels here are normally distributed


def resized(scales: list[float], source: str | None = None, **attributes) -> onnx.ModelProto:
    tiny = Tiny()
    source = "x" if source is None else tiny.stem()
    scale = tiny.constant("scales", np.float32(scales))
    return tiny.model(tiny.op("Resize", "copy", source, "", scale, **attributes))


@pytest.mark.parametrize(
    ("scales", "coordinates"),
    [
        *(
            (scales, "half_pixel")
            for scales in ([1.25, 1.5], [11 / 9, 1.25], [0.6, 0.5], [9 / 8, 1])
        ),
        ([1, 3], "pytorch_half_pixel"),
        ([0.125, 0.125], "half_pixel"),  # one cell alone, which PyTorch samples elsewhere
    ],
)
def test_picked_neighbours_are_weighted_as_a_resize_does(scales, coordinates):
    sides = {"mode": "linear", "coordinate_transformation_mode": coordinates}
    model = round_scales_up(resized([1, 1, *scales], **sides))
    before = model.SerializeToString()
    picked = resize_by_picking(model)
    onnx.checker.check_model(picked, full_check=True)
    assert "Resize" not in {node.op_type for node in picked.graph.node}
    (expected,), (got,) = run(model), run(picked)
    assert expected.shape == got.shape
    np.testing.assert_allclose(expected, got, rtol=0, atol=PIXEL)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("source", "scales", "attributes"),
    [
        ("stem", [1, 1, 2, 2], {"mode": "linear"}),  # 16 channels fill a vector
        (None, [1, 2, 2, 2], {"mode": "linear"}),
        (None, [1, 1, 2, 2], {"mode": "nearest"}),
        (None, [1, 1, 2, 2], {"mode": "cubic"}),
        (
            None,
            [1, 1, 2, 2],
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        ),
    ],
)
def test_any_other_resize_stays(source, scales, attributes):
    model = resized(scales, source, **attributes)
    assert resize_by_picking(model).graph.node == model.graph.node


def test_an_image_of_unknown_sides_stays():
    model = resized([1, 1, 2, 2], mode="linear")
    for side in model.graph.input[0].type.tensor_type.shape.dim:
        side.dim_param = "any"
    assert resize_by_picking(model).graph.node == model.graph.node
