"""A record says everything that is needed to measure again, in one schema for all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bodypose_tools.files.json_records import RecordError
from bodypose_tools.results import record as module
from bodypose_tools.results.record import (
    FIELDS,
    KEY,
    VERSION,
    Measurement,
    code_hash,
    code_taking_part,
    digest,
    read_made,
)

RESULTS = Path(__file__).parents[4] / "docs" / "results"


@pytest.fixture
def model(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"weights")
    return tmp_path / "m.onnx"


def test_a_written_record_has_every_field_and_what_was_measured(tmp_path, model):
    written = Measurement().write(
        tmp_path / "r.json", {"schema": "s/1", "AP": 0.5}, models=[model], seeds={"order": 3}
    )
    record, made = read_made(tmp_path / "r.json")
    assert record == written
    assert (record["schema"], record["AP"]) == ("s/1", 0.5)
    assert set(made) == {*FIELDS, "took_s"}
    assert made["version"] == VERSION
    assert made["models"] == [{"name": "m.onnx", "sha256": digest(model)}]
    assert made["seeds"] == {"order": 3}
    assert {"cpu", "gpu", "cores", "load_before", "load_after"} <= set(made["machine"])
    assert made["versions"]["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert made["noise"] is None


def test_a_record_says_how_long_it_took():
    measurement = Measurement()
    measurement._began -= 90
    assert 90 <= measurement.record({})[KEY]["took_s"] < 100


def test_a_measurement_of_times_knows_the_noise_before_between_and_after():
    measurement = Measurement(timed=True)
    measurement.between()
    noise = measurement.record({})[KEY]["noise"]
    assert len(noise["fixed_job_ms"]) == 3
    assert noise["too_noisy"] == (noise["spread"] > noise["limit"])


def test_the_command_names_files_without_the_folders_of_this_machine(monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["/somewhere/bin/tools", "gate", "/home/me/a.onnx", "--j=/b/c"]
    )
    assert Measurement().record({})[KEY]["command"] == "tools gate a.onnx --j=c"


def test_a_module_that_was_run_is_named_as_one_runs_it(monkeypatch):
    script = RESULTS.parents[1] / "tests" / "benchmarks" / "isolation.py"
    monkeypatch.setattr(module, "CHECKOUT", RESULTS.parents[1])
    monkeypatch.setattr(sys, "argv", [str(script), "--rounds", "2"])
    command = Measurement().record({})[KEY]["command"]
    assert command == "python -m tests.benchmarks.isolation --rounds 2"


def test_the_code_is_what_was_loaded_by_hash():
    code = code_taking_part()
    place = "tools/bodypose_tools/files/artifacts.py"
    assert code[place] == code_hash(RESULTS.parents[1] / place)
    assert not [name for name in code if name.endswith(("commands.py", "results/record.py"))]


def test_a_folder_of_images_is_told_from_one_with_another_name_or_byte(tmp_path):
    def folder(name, **files):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(content)
        return digest(tmp_path / name)

    one = folder("one", a="1", b="2")
    assert folder("same", b="2", a="1") == one
    assert folder("byte", a="1", b="3") != one
    assert folder("name", a="1", c="2") != one


def test_a_changed_file_marks_the_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    assert Measurement().record({})[KEY]["commit"] is None


def test_a_file_without_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "old.json").write_text('{"AP": 1}')
    with pytest.raises(RecordError, match="made"):
        read_made(tmp_path / "old.json")
    (tmp_path / "half.json").write_text(json.dumps({KEY: dict.fromkeys(FIELDS[:-1])}))
    with pytest.raises(RecordError, match="with code"):
        read_made(tmp_path / "half.json")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_every_result_has_the_one_schema(path):
    record, made = read_made(path)
    assert set(made) - {"took_s"} == set(FIELDS)
    assert record["schema"].startswith("bodypose-")
