import json
import sys
from pathlib import Path

from typer.testing import CliRunner

from bodypose_tools.benchmark import quantisers
from bodypose_tools.cli import app
from bodypose_tools.files.shipped import MODELS


def test_one_run_measures_ours_beside_a_library_on_every_graph(tmp_path, drawn_coco, monkeypatch):
    monkeypatch.setattr(quantisers, "environment", lambda *given: Path(sys.executable))
    out, folder = tmp_path / "quantisers.json", str(drawn_coco)
    given = ["-a", str(drawn_coco / "people.json"), "-i", folder, "--cal-image-dir", folder]
    model = str(MODELS / "bodypose-xs.onnx")
    options = ["-q", "onnxruntime", "-n", "2", "--rounds", "1", "-o", str(out)]
    said = CliRunner().invoke(app, ["compare-quantisers", model, *given, *options])
    assert said.exit_code == 0, said.output
    graphs = json.loads(out.read_text())["graphs"]
    others = [
        f"ONNX Runtime, {how}" for how in ("as it comes", "our rules", "our rules, equalised")
    ]
    assert list(graphs) == ["float32", "ours", *others]
    assert graphs["float32"]["int8_convolutions"] == 0
    assert all(graphs[title]["int8_convolutions"] > 40 for title in ("ours", *others))
    assert graphs["float32"]["AP_drop"] == 0
