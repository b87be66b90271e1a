"""Our own network taken as a foreign one: exported raw, changed by other tools, and adopted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime.quantization as ort
import pytest
from onnxruntime.quantization.shape_inference import quant_pre_process
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.data.photos import images_in
from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.graphs.index import OnnxGraph, replace_nodes
from bodypose_tools.networks.decoding import DecodeSettings, decode_fields
from bodypose_tools.networks.fields import Fields
from bodypose_tools.quantisation.placement import place, prepare
from bodypose_tools.runtimes.cpu import onnx_session
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.skeleton import BODYPOSE_18
from tests.coco import COCO, MISSING_COCO
from tests.unit.tools.engines.test_build import needs_rtx

HW = (288, 384)
IMAGES = 60  # of val: with all 250, both AP are the same, too
pytestmark = pytest.mark.coco


def tools(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def adopt(net: Path, out: Path) -> Path:
    centres = ("--centre", "centre", "--offsets", "offsets")
    said = tools("adopt", net, "-o", out, "--preset", "tao", *centres)
    assert "channels in doubt" in said
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Eight photos of training people."""
    if not (COCO / "train").is_dir():
        pytest.skip(MISSING_COCO)
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted((COCO / "train").glob("*.jpg"))[:8]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """The shipped network's graph up to its fields."""
    path = tmp_path_factory.mktemp("raw") / "raw.onnx"
    tools("export", "-m", SHIPPED_MODEL.with_suffix(".keras"), "-o", path)
    return path


@pytest.fixture(scope="module")
def adopted(raw) -> Path:
    return adopt(raw, raw.with_name("adopted.onnx"))


def ap_of(model: Path) -> float:
    predict, spec, _ = open_predictor(model)
    annotations = COCO / "person_keypoints_val.json"
    return evaluate_model(predict, spec, annotations, COCO / "val", IMAGES).ap


def test_the_adopted_network_is_the_native_one(adopted, photos):
    pixels = images_in(photos, HW)
    for ours, theirs in zip(
        open_predictor(SHIPPED_MODEL)[0](pixels), open_predictor(adopted)[0](pixels), strict=True
    ):
        assert np.allclose(ours, theirs, atol=1e-3)
    assert ap_of(adopted) == pytest.approx(ap_of(SHIPPED_MODEL), abs=0.001)


def convolutions(model: Path) -> dict[str, bytes]:
    """The kernel of each convolution by its name."""
    graph = OnnxGraph(onnx.load(model))
    return {
        node.name: graph.constant(node.input[1]).tobytes()
        for node in graph.nodes
        if node.op_type == "Conv"
    }


def test_in_int8_with_the_same_float_layers_it_has_the_ap_of_the_native_one(
    adopted, photos, tmp_path
):
    layers = place(prepare(onnx.load(SHIPPED_MODEL))).layers[-10:]
    native = convolutions(SHIPPED_MODEL)
    theirs = {kernel: name for name, kernel in convolutions(adopted).items()}
    scores = []
    for source, kept in (
        (SHIPPED_MODEL, layers),
        (adopted, [theirs[native[layer]] for layer in layers]),
    ):
        out = tmp_path / source.name
        floats = [word for layer in kept for word in ("--float-layer", layer)]
        # The gate is not what is tested.
        few = ("--batches", "2", "--batch_size", "4", "--min_agreement", "0.25")
        tools(
            *("export", "-m", source, "-o", out, "--data_type", "int8", *few, *floats),
            *("--cal_image_dir", photos),
        )
        scores.append(ap_of(out))
    assert scores[1] == pytest.approx(scores[0], abs=0.003)


class Photos(ort.CalibrationDataReader):
    """Photos for ONNX Runtime's quantiser."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._left = iter(pixels)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {"pixels": image[None]}


def _quantised(activations: ort.QuantType, symmetric: bool) -> Callable[[Path, Path, Path], None]:
    def change(raw: Path, out: Path, photos: Path) -> None:
        unfolded, ready = out.with_suffix(".floats.onnx"), out.with_suffix(".ready.onnx")
        model = onnx.load(raw)
        graph = OnnxGraph(model)
        folded = [n for n in graph.nodes if n.op_type == "Cast" and graph.is_constant(n.output[0])]
        # Kernels stored as float16, which a quantiser takes for activations.
        floats = [
            onnx.numpy_helper.from_array(graph.constant(n.output[0]), n.output[0]) for n in folded
        ]
        replace_nodes(model, [node for node in graph.nodes if node not in folded], floats)
        onnx.save(model, unfolded)
        quant_pre_process(str(unfolded), str(ready), skip_symbolic_shape=True)
        heads = [n.name for n in graph.nodes if n.name in graph.leading_to_outputs()]
        ort.quantize_static(
            str(ready),
            str(out),
            Photos(images_in(photos, HW)),
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            activation_type=activations,
            weight_type=ort.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=heads,
            extra_options={"ActivationSymmetric": symmetric},
        )
        assert any(node.op_type == "QuantizeLinear" for node in onnx.load(out).graph.node)

    return change


def _simplified(raw: Path, out: Path, photos: Path) -> None:
    slim = pytest.importorskip("onnxslim", reason="needs onnxslim: run `pip install onnxslim`")
    onnx.save(slim.slim(str(raw)), out)


CHANGES = {
    # As Model Optimizer places Q/DQ for TensorRT: signed, zero points 0.
    "signed Q/DQ": _quantised(ort.QuantType.QInt8, True),
    # As ONNX Runtime and NNCF do for CPUs: unsigned, with zero points.
    "unsigned Q/DQ": _quantised(ort.QuantType.QUInt8, False),
    "onnxslim": _simplified,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_graph_that_another_tool_changed_is_adopted(name, raw, photos, tmp_path):
    changed = tmp_path / "changed.onnx"
    CHANGES[name](raw, changed, photos)
    pixels = images_in(photos, HW)[:2]
    heatmaps, affinity, *centres = onnx_session(changed).run(None, {"pixels": pixels})
    fields = Fields((heatmaps,), (affinity,), *centres)
    expected = decode_fields(fields, BODYPOSE_18, DecodeSettings(), HW)

    made = adopt(changed, tmp_path / "made.onnx")

    for ours, theirs in zip(open_predictor(made)[0](pixels), expected, strict=True):
        assert np.allclose(ours, np.asarray(theirs), atol=1e-2)


def test_a_pruned_network_is_adopted(tiny_keras, tmp_path):
    pruned, net = tmp_path / "pruned.keras", tmp_path / "pruned.onnx"
    tools("prune", "-m", tiny_keras, "-o", pruned, "-pth", "0.5", "-pg", "8", "-nf", "8")
    tools("export", "-m", pruned, "-o", net)
    made = tmp_path / "made.onnx"
    tools(
        *("adopt", net, "-o", made, "--preset", "tao", "--centre", "centre"),
        *("--offsets", "offsets"),
    )
    tools("build-repo", made, "-o", tmp_path / "repository")


@needs_rtx
def test_nvidias_builder_accepts_an_adopted_network(adopted, tmp_path):
    plan = tmp_path / "model.plan"
    tools("build-engine", adopted, "-o", plan, "--runtime", "tensorrt-rtx")
    assert plan.stat().st_size > 1_000_000
