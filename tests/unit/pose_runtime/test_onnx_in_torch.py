"""The exported graph in PyTorch on the CPU against ONNX Runtime: the same peaks and limb scores."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.runtimes.cpu import onnx_session
from pose_runtime.errors import ContractError
from pose_runtime.onnx_in_torch import torch_function
from pose_runtime.spec import PipelineSpec

torch = pytest.importorskip("torch", reason="needs PyTorch: run `pip install torch==2.13.0`")


SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)


def one_node(path: Path, node: onnx.NodeProto, dims: list[int], **constants: np.ndarray) -> Path:
    """A graph: pixels (1, *dims) uint8 -> Cast to float32 -> `node` -> its only output."""
    cast = helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [cast, node],
        "one",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", *dims])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def both(path: Path, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    expected = onnx_session(path).run(None, {"pixels": pixels})[0]
    with torch.inference_mode():
        (got,) = torch_function(path, len(pixels), "cpu", half=False)(torch.from_numpy(pixels))
    return expected, got.numpy()


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_tiny_network_gives_the_same_outputs(tiny_onnx, tmp_path, batch):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    pixels = random_pixels(batch, *SPEC.network_hw, 3)
    expected = onnx_session(model).run(None, {"pixels": pixels})

    with torch.inference_mode():
        got = torch_function(model, batch, "cpu", half=False)(torch.from_numpy(pixels))

    for one, other in zip(expected, got, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4)


def test_the_shipped_network_finds_the_same_joints():
    rng = np.random.default_rng(0)
    height, width = spec_in_onnx(SHIPPED_MODEL).network_hw
    coarse = rng.integers(0, 256, (1, height // 32, width // 32, 3), np.uint8)
    pixels = np.ascontiguousarray(coarse.repeat(32, axis=1).repeat(32, axis=2))
    session = onnx_session(SHIPPED_MODEL, threads=1)
    peaks, limb_scores = session.run(None, {"pixels": pixels})

    with torch.inference_mode():
        got = torch_function(SHIPPED_MODEL, 1, "cpu", half=False)(torch.from_numpy(pixels))

    # Equal scores may come in another order: compare each joint's scores, and its best peak.
    np.testing.assert_allclose(peaks[..., 2], got[0].numpy()[..., 2], atol=1e-3)
    sure = peaks[:, :, 0, 2] > peaks[:, :, 1, 2] + 0.01
    np.testing.assert_allclose(peaks[:, :, 0][sure], got[0].numpy()[:, :, 0][sure], atol=0.05)
    assert got[1].shape == limb_scores.shape


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 0, 1, 1]])
@pytest.mark.parametrize("group", [1, 2])
def test_a_convolution_pads_each_side_as_it_says(tmp_path, pads, group):
    kernel = np.random.default_rng(1).normal(size=(4, 2 // group, 3, 3)).astype(np.float32)
    bias = np.arange(4, dtype=np.float32)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=pads, strides=[2, 2], group=group)
    path = one_node(tmp_path / "conv.onnx", node, [2, 8, 6], w=kernel, b=bias)

    expected, got = both(path, random_pixels(1, 2, 8, 6))

    np.testing.assert_allclose(expected, got, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("scales", [[1, 1, 1.25, 1.5], [1, 1, 0.5, 2]])
def test_resizing_samples_half_pixel_centres(tmp_path, scales):
    node = helper.make_node(
        "Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel"
    )
    path = one_node(tmp_path / "r.onnx", node, [2, 8, 6], s=np.array(scales, np.float32))

    expected, got = both(path, random_pixels(1, 2, 8, 6))

    np.testing.assert_allclose(expected, got, atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        *((kind, {}) for kind in ("Abs", "Elu", "GlobalAveragePool", "HardSigmoid", "HardSwish")),
        *((kind, {}) for kind in ("LeakyRelu", "Neg", "Softplus", "Tanh")),
        ("Elu", {"alpha": 0.5}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("HardSigmoid", {"alpha": 0.1, "beta": 0.4}),
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}),
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}),
    ],
)
def test_what_networks_of_others_are_made_of(tmp_path, kind, attributes):
    """Between a convolution, so that there are numbers below 0, and the output."""
    kernel = np.random.default_rng(1).normal(0, 0.01, (4, 3, 1, 1)).astype(np.float32)
    path = one_node(
        tmp_path / "one.onnx", helper.make_node("Conv", ["x", "w"], ["y"]), [3, 8, 12], w=kernel
    )
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node(kind, ["z"], ["y"], **attributes))
    onnx.save(model, path)
    expected, got = both(path, random_pixels(2, 3, 8, 12))
    np.testing.assert_allclose(expected, got, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "attributes", "constants"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}, {}),
        (
            "ConvTranspose",
            {"strides": [2, 2], "output_padding": [1, 1]},
            {"w": np.ones((3, 2, 3, 3), np.float32)},
        ),
        (
            "Resize",
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            {"": None, "s": np.float32([1, 1, 2, 2])},
        ),
    ],
)
def test_what_is_not_computed_is_refused_in_one_line(tmp_path, kind, attributes, constants):
    node = helper.make_node(kind, ["x", *constants], ["y"], **attributes)
    given = {name: array for name, array in constants.items() if name}
    path = one_node(tmp_path / "one.onnx", node, [3, 8, 12], **given)
    with pytest.raises(ContractError, match=f"expected a {kind} that this runtime computes, got"):
        torch_function(path, 1, "cpu", half=False)


def test_prelu_and_batch_norm_have_a_number_for_each_channel(tmp_path):
    rng = np.random.default_rng(2)
    numbers = {
        name: rng.uniform(0.2, 2, 3).astype(np.float32)
        for name in ("scale", "shift", "mean", "var")
    }
    norm = helper.make_node("BatchNormalization", ["x", *numbers], ["y"], epsilon=1e-3)
    path = one_node(tmp_path / "one.onnx", norm, [3, 8, 12], **numbers)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "z"
    slope = onnx.numpy_helper.from_array(np.float32([[[0.1]], [[0.2]], [[-0.3]]]), "slope")
    offset = onnx.numpy_helper.from_array(np.float32(-100), "offset")
    model.graph.initializer.extend([slope, offset])
    model.graph.node.append(helper.make_node("Add", ["z", "offset"], ["lower"]))
    model.graph.node.append(helper.make_node("PRelu", ["lower", "slope"], ["y"]))
    onnx.save(model, path)
    expected, got = both(path, random_pixels(2, 3, 8, 12))
    assert (expected < 0).any()
    np.testing.assert_allclose(expected, got, rtol=1e-4, atol=1e-3)


def test_it_compiles_as_one_graph(tiny_onnx, tmp_path):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    function = torch_function(model, 2, "cpu", half=True)
    whole = torch.compile(function, backend="eager", fullgraph=True, dynamic=False)

    with torch.inference_mode():
        peaks, limb_scores = whole(torch.zeros((2, *SPEC.network_hw, 3), dtype=torch.uint8))

    assert (peaks.shape[1:], limb_scores.shape[1:]) == (SPEC.peaks.dims, SPEC.limb_scores.dims)


def test_an_int8_graph_is_refused_in_one_line(tmp_path):
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"])
    path = one_node(tmp_path / "q.onnx", node, [2, 4, 4], s=np.array(0.5, np.float32))

    with pytest.raises(ContractError, match=r"expected a float graph.*QuantizeLinear"):
        torch_function(path, 1, "cpu", half=False)


def test_what_depends_on_shapes_alone_is_computed_once(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["width"], axis=0),
        helper.make_node("Concat", ["minus", "width"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    path = one_node(
        tmp_path / "s.onnx",
        nodes[0],
        [2, 4, 6],
        last=np.array([3]),
        minus=np.array([-1]),
    )
    model = onnx.load(path)
    model.graph.node.extend(nodes[1:])
    onnx.save(model, path)

    expected, got = both(path, random_pixels(1, 2, 4, 6))

    assert expected.shape == got.shape == (8, 6)
