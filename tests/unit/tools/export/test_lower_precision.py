"""An INT8 graph can be made again from its record, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import keras
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.evaluation.offline import Split
from bodypose_tools.export import lower_precision
from bodypose_tools.export.lower_precision import float_layers_in
from bodypose_tools.files.artifacts import Artifact, record_path
from bodypose_tools.files.json_records import RecordError
from bodypose_tools.networks.image_pyramid import add_pyramid
from bodypose_tools.networks.keras_files import save_network
from bodypose_tools.networks.network import build_network
from bodypose_tools.networks.settings import NetworkConfig
from bodypose_tools.quantisation import search
from bodypose_tools.quantisation.calibration import Ranges
from bodypose_tools.quantisation.gate import AccuracyGateError, Verdict, compare_ap
from bodypose_tools.quantisation.placement import place, prepare
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec

HW = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A float graph of random weights, and eight images to calibrate with."""
    folder = tmp_path_factory.mktemp("int8")
    keras.utils.set_random_seed(3)
    network = build_network(NetworkConfig(stages=2), BODYPOSE_18)
    save_network(network, folder / "net.keras", "train", PipelineSpec(network_hw=HW), settings={})
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        coarse = random.integers(0, 256, (8, 12, 3), np.uint8)
        pixels = cv2.resize(coarse, HW[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
    run(folder, "net.keras", "float.onnx", "--sdk_compatible_model")
    return folder


def run(folder: Path, model: str, out: str, *options: str) -> Path:
    files = ("-m", str(folder / model), "-o", str(folder / out))
    result = CliRunner().invoke(app, ["export", *files, *options])
    assert result.exit_code == 0, (result.output, result.exception)
    return folder / out


def int8(folder: Path, out: str, *options: str, model: str = "float.onnx") -> Path:
    calibration = ("--batches", "2", "--batch_size", "4", "--cal_image_dir", str(folder / "images"))
    kind = ("--data_type", "int8", "--min_agreement", "0")
    return run(folder, model, out, *kind, *calibration, *options)


@pytest.mark.slow
def test_a_graph_is_made_again_from_its_record(folder):
    layers = place(prepare(onnx.load(folder / "float.onnx"))).layers
    kept = layers[2], layers[-1]
    options = [word for name in kept for word in ("--float_layer", name)]
    first = int8(folder, "first.onnx", *options)
    second = int8(folder, "second.onnx", "--layers-from", str(record_path(first)))
    assert first.read_bytes() == second.read_bytes()
    assert int8(folder, "all.onnx").read_bytes() != first.read_bytes()
    settings = Artifact.open(second).settings
    assert settings["float_layers"] == list(kept)
    assert settings["int8_layers"] == len(layers) - 2
    assert settings["calibration"] == {"method": "percentile", "images": 8}


@pytest.mark.slow
def test_graphs_for_cpus_resize_no_image_and_transpose_no_convolution(folder):
    add_pyramid(folder / "net.keras", folder / "both.keras", 2)
    run(folder, "both.keras", "both.onnx", "--sdk_compatible_model")
    cpu = int8(folder, "both.cpu.onnx", "--unsigned_activations", model="both.onnx")
    tensorrt = int8(folder, "both.tensorrt.onnx", model="both.onnx")
    kinds = [
        [node.op_type for node in onnx.load(path).graph.node]
        for path in (folder / "both.onnx", cpu, tensorrt)
    ]
    resizes = [each.count("Resize") for each in kinds]
    assert resizes == [resizes[0], resizes[0] - 1, resizes[0]]
    stages = kinds[0].count("ConvTranspose")
    assert [each.count("ConvTranspose") for each in kinds] == [stages, 0, stages]
    assert [each.count("DepthToSpace") for each in kinds] == [0, stages, 0]


@pytest.mark.slow
def test_the_record_of_a_gate_names_what_makes_its_graph(folder, drawn_coco, tmp_path):
    layers = place(prepare(onnx.load(folder / "float.onnx"))).layers
    made = int8(folder, "gated.onnx", "--float_layer", layers[1])
    splits = [Split(drawn_coco / "people.json", drawn_coco)]
    record = compare_ap(folder / "float.onnx", made, splits, 1.0)
    (tmp_path / "gate.json").write_text(json.dumps(record))
    assert float_layers_in(tmp_path / "gate.json") == (layers[1],)
    again = int8(folder, "again.onnx", "--layers-from", str(tmp_path / "gate.json"))
    assert again.read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    "record", [{}, {"candidate": {}}, {"settings": {"data_type": "fp32"}}, {"settings": []}]
)
def test_a_record_without_layers_is_refused_in_one_line(tmp_path, record):
    (tmp_path / "r.json").write_text(json.dumps(record))
    with pytest.raises(RecordError, match="expected a record with the float layers"):
        float_layers_in(tmp_path / "r.json")


@pytest.fixture
def early_after_four(monkeypatch) -> list[str]:
    """An early look after four of the eight images; gets the name of each round of calibration."""
    rounds: list[str] = []

    def counted(self: Ranges, images: Iterable[NDArray[np.uint8]]) -> None:
        rounds.append(f"{len(seen := list(images))} images")
        add(self, seen)

    add = Ranges.add
    monkeypatch.setattr(Ranges, "add", counted)
    monkeypatch.setattr(search, "EARLY_IMAGES", 4)
    return rounds


@pytest.mark.slow
def test_a_graph_far_below_its_gate_is_refused_before_all_images_calibrate(
    folder, early_after_four, monkeypatch
):
    missed = Verdict("joints", 0.5, 0.99, passed=False)
    monkeypatch.setattr(lower_precision, "agreement_judge", lambda *given: lambda path: missed)
    out = folder / "hopeless.onnx"
    files = ("-m", str(folder / "float.onnx"), "-o", str(out))
    size = ("--batches", "2", "--batch_size", "4", "--cal_image_dir", str(folder / "images"))
    result = CliRunner().invoke(app, ["export", *files, "--data_type", "int8", *size])
    assert isinstance(result.exception, AccuracyGateError)
    assert str(result.exception).startswith(
        "expected joints, after 4 of 8 calibration images, within 0.99, got 0.5000; nothing was"
        " written: --auto-mixed searches the layers that must stay in float, about 1 min here"
    )
    assert early_after_four == ["4 images"]
    assert not out.exists()


@pytest.mark.slow
def test_an_early_look_changes_no_graph(folder, early_after_four, monkeypatch):
    looked = int8(folder, "looked.onnx")
    assert early_after_four == ["4 images", "4 images"]
    monkeypatch.setattr(search, "EARLY_IMAGES", 8)
    assert int8(folder, "unlooked.onnx").read_bytes() == looked.read_bytes()
    assert early_after_four[2:] == ["8 images"]


@pytest.mark.slow
def test_the_search_has_no_early_look(folder, early_after_four, monkeypatch):
    monkeypatch.setattr(lower_precision, "early_judge", None)
    int8(folder, "mixed.onnx", "--auto_mixed")
    assert early_after_four == ["4 images", "4 images"]
