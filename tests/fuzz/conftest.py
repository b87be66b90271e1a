"""Right files of every kind, and the places that questions about them name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.fuzz.file_kinds import PERFORMANCE, PERSON, SPEC, Kind, kinds_in
from tests.unit.tools.training.test_train import spec_for


@pytest.fixture(autouse=True)
def no_noise_is_measured(monkeypatch) -> None:
    """Nothing is timed here, and asking how noisy the machine is takes longer than most answers."""
    monkeypatch.setattr(
        "bodypose_tools.results.machine.Noise.probe", lambda noise: noise.points_ms.append(1.0)
    )


@pytest.fixture(scope="session")
def right_files(tmp_path_factory) -> Path:
    """A folder for right files."""
    return tmp_path_factory.mktemp("right")


@pytest.fixture(scope="session")
def kinds(right_files, drawn_coco, tiny_onnx, tiny_keras) -> dict[str, Kind]:
    from bodypose_tools.data.photos import packaged_images
    from bodypose_tools.export.onnx_from_keras import export_onnx
    from bodypose_tools.networks.decoding import DecodeSettings

    tiny, small = tiny_onnx(right_files / "tiny.onnx", SPEC), right_files / "small.onnx"
    hw, decode = SPEC.network_hw, DecodeSettings(max_peaks=SPEC.max_peaks)
    export_onnx(tiny_keras, small, network_hw=hw, decode=decode, samples=packaged_images)
    every = kinds_in(right_files, drawn_coco, tiny, tiny_keras, small)
    return {kind.name: kind for kind in every}


@pytest.fixture(scope="session")
def places(kinds, right_files, drawn_coco, tiny_keras) -> Mapping[str, Path]:
    """What `tests.fuzz.questions` calls by a name."""
    spec = json.loads(spec_for(drawn_coco, 2).model_dump_json())
    (right_files / "spec.yaml").write_text(yaml.safe_dump(spec))
    (right_files / "results.json").write_text(json.dumps([PERSON]))
    return {
        "none": right_files / "none.json",
        "tiny": right_files / "tiny.onnx",
        "small": right_files / "small.onnx",
        "foreign": right_files / "foreign.onnx",
        "keras": tiny_keras,
        "coco": drawn_coco,
        "people": drawn_coco / "people.json",
        "labels": right_files / "labelled" / "people.json",
        "results": right_files / "results.json",
        "spec": right_files / "spec.yaml",
        "tao": right_files / "tao.yaml",
        "performance": PERFORMANCE,
        "served": right_files / "served" / "repository",
    }
