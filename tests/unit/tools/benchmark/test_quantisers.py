import sys
from pathlib import Path

import pytest

from bodypose_tools.benchmark import quantisers
from bodypose_tools.benchmark.quantisers import LIBRARIES, QuantiserError, environment
from bodypose_tools.benchmark.settings import Quantiser

NUMBERS = {"low": 1.4, "median": 1.5, "high": 1.6}


def test_every_library_is_pinned_and_has_its_script():
    assert set(LIBRARIES) == set(Quantiser)
    for library in LIBRARIES.values():
        assert all("==" in package for package in library.packages)
        assert (Path(quantisers.__file__).parent / "quantiser_runs" / library.run).is_file()


def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path, monkeypatch):
    made, run = [], []
    monkeypatch.setattr(quantisers.venv, "create", lambda folder, **how: made.append(folder))
    monkeypatch.setattr(quantisers, "_run", lambda command, title: run.append(command))
    folder = tmp_path / "nncf"
    folder.mkdir()
    for _ in range(2):
        assert environment(Quantiser.NNCF, tmp_path) == folder / "bin" / "python"
    assert made == [folder]
    assert run[0][1:4] == ["-m", "pip", "install"]
    (folder / "installed.txt").write_text("nncf==1")
    environment(Quantiser.NNCF, tmp_path)
    assert len(made) == 2


def test_a_library_that_fails_is_one_line():
    command = [sys.executable, "-c", "import sys; sys.exit('first\\nno such scale')"]
    with pytest.raises(QuantiserError, match=r"^NNCF: expected .* no such scale; .*--quantiser$"):
        quantisers._run(command, "NNCF")


def test_a_graph_is_as_large_as_its_own_files(tmp_path):
    for name, size in (("net.onnx", 3), ("net.onnx.json", 5), ("net.int8.onnx", 7)):
        (tmp_path / name).write_bytes(bytes(size * 10**6))
    for name, size in (("ir.xml", 1), ("ir.bin", 2), ("ir.onnx", 4)):
        (tmp_path / name).write_bytes(bytes(size * 10**6))
    assert quantisers._megabytes(tmp_path / "net.onnx") == 3
    assert quantisers._megabytes(tmp_path / "ir.xml") == 3


def test_the_table_has_a_row_a_graph():
    numbers = {"AP": 0.38, "AP_drop": 0.01, "int8_convolutions": 141, "megabytes": 5.9}
    graphs = {title: {**numbers, "times_as_fast": NUMBERS} for title in ("float32", "ours")}
    rows = quantisers.quantisers_table({"graphs": graphs})
    assert len(rows) == 4
    assert rows[-1] == "| ours | 0.3800 | 0.0100 | 141 | 1.50 (1.40 to 1.60) | 5.9 |"
