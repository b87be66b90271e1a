"""Our own network taken as a foreign one: exported raw, changed by other tools, and adopted."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime.quantization as ort
import onnxslim
import pytest
import torch
from onnxruntime.quantization.shape_inference import quant_pre_process

from bodypose_tools.data.photos import images_in
from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.graphs.index import OnnxGraph
from bodypose_tools.graphs.storage import unfold_casts
from bodypose_tools.networks.decoding import DecodeSettings, decode_fields
from bodypose_tools.networks.fields import Fields
from bodypose_tools.quantisation.placement import place, prepare
from bodypose_tools.runtimes.cpu import onnx_session
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.skeleton import BODYPOSE_18
from tests.coco import COCO, training_photos
from tests.commands import tools
from tests.unit.tools.engines.test_build import needs_rtx

HW = spec_in_onnx(SHIPPED_MODEL).network_hw
IMAGES = 30  # of val: with all 250, both AP are the same, too
RTX_IS_HERE = importlib.util.find_spec("tensorrt_rtx") is not None
pytestmark = pytest.mark.coco


def adopt(net: Path, out: Path) -> Path:
    centres = ("--centre", "centre", "--offsets", "offsets")
    said = tools("adopt", net, "-o", out, "--preset", "tao", *centres)
    assert "channels in doubt" in said
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return training_photos(tmp_path_factory.mktemp("photos"))


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
        few = ("--batches", "2", "--batch_size", "2", "--min_agreement", "0.25")
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
        model = unfold_casts(onnx.load(raw))
        graph = OnnxGraph(model)
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
    onnx.save(onnxslim.slim(str(raw)), out)


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


class Foreign(torch.nn.Module):
    """A network of two stages, with the activations of OpenPose and of its descendants."""

    def __init__(self) -> None:
        super().__init__()
        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        self.trunk = torch.nn.Sequential(
            *(conv(3, 32, 3, 2, 1), norm(32), torch.nn.ReLU()),
            *(conv(32, 32, 3, 1, 1, groups=32, bias=False), torch.nn.ELU(), conv(32, 64, 1)),
            *(torch.nn.MaxPool2d(2), torch.nn.PReLU(64), conv(64, 64, 3, 2, 1)),
            torch.nn.LeakyReLU(0.1),
        )
        self.skip = torch.nn.Sequential(
            *(conv(64, 64, 3, padding=2, dilation=2), torch.nn.ReLU6(), conv(64, 64, 3, 1, 1)),
            torch.nn.PReLU(64),
        )
        self.again = torch.nn.Sequential(conv(64 + 57, 64, 7, 1, 3), torch.nn.Hardswish())
        self.heads = torch.nn.ModuleList(conv(64, count, 1) for count in (19, 38, 19, 38))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.trunk(image)
        features = features + self.skip(features)
        heatmaps, fields = torch.sigmoid(self.heads[0](features)), self.heads[1](features)
        again = self.again(torch.cat([features, heatmaps, fields], 1))
        return heatmaps, fields, torch.sigmoid(self.heads[2](again)), self.heads[3](again)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """A network that PyTorch exported for one image, adopted."""
    torch.manual_seed(0)
    net = tmp_path_factory.mktemp("foreign") / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.zeros(1, 3, 128, 160)
        torch.onnx.export(Foreign().eval(), image, str(net), opset_version=11, dynamo=False)
    made = net.with_name("made.onnx")
    tools("adopt", net, "-o", made, "--preset", "lightweight-openpose")
    return made


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_network_from_pytorch_is_shrunk_and_built(precision, foreign, photos, tmp_path):
    model = foreign
    if precision != "fp32":
        model = tmp_path / "small.onnx"
        calibration = ("--batches", "1", "--cal_image_dir", photos) if precision == "int8" else ()
        # Nobody trained it: its peaks are noise, and few stay.
        tools(
            *("export", "-m", foreign, "-o", model, "--data_type", precision),
            *("--min_agreement", "0.5", *calibration),
        )
    tools("build-repo", model, "-o", tmp_path / "repository")
    if RTX_IS_HERE:
        plan = tmp_path / "model.plan"
        said = tools("build-engine", model, "-o", plan, "--runtime", "tensorrt-rtx")
        assert ("8 INT8 and 3 other" if precision == "int8" else "0 INT8 and 11 other") in said


@needs_rtx
def test_nvidias_builder_accepts_an_adopted_network(adopted, tmp_path):
    plan = tmp_path / "model.plan"
    tools("build-engine", adopted, "-o", plan, "--runtime", "tensorrt-rtx")
    assert plan.stat().st_size > 1_000_000
