"""Polygraphy itself reads what we write, and we read what it writes."""

import json
import warnings

import numpy as np
import pytest

from bodypose_tools.quantisation.polygraphy_files import (
    PolygraphyFileError,
    RunnerOutputs,
    load_inputs,
    load_outputs,
    save_inputs,
    save_outputs,
)

PIXELS = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
PEAKS = np.linspace(0, 1, 6, dtype=np.float32).reshape(1, 2, 3)


@pytest.fixture(scope="module")
def polygraphy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of optional packages
        comparator = pytest.importorskip("polygraphy.comparator")
        from polygraphy.json import load_json, save_json
    return comparator, load_json, save_json


def test_polygraphy_reads_our_inputs(tmp_path, polygraphy):
    save_inputs(tmp_path / "in.json", [{"pixels": PIXELS}, {"pixels": PIXELS + 1}])

    first, second = polygraphy[1](str(tmp_path / "in.json"))

    assert first["pixels"].dtype == np.uint8
    assert np.array_equal(first["pixels"], PIXELS)
    assert np.array_equal(second["pixels"], PIXELS + 1)


def test_polygraphy_reads_our_outputs(tmp_path, polygraphy):
    runs = [
        RunnerOutputs("a.onnx", [{"peaks": PEAKS}], [0.5]),
        RunnerOutputs("b.plan", [{"peaks": PEAKS + 1}], [0.1]),
    ]
    save_outputs(tmp_path / "out.json", runs)

    results = polygraphy[0].RunResults.load(str(tmp_path / "out.json"))

    assert list(results.keys()) == ["a.onnx", "b.plan"]
    assert np.array_equal(results["b.plan"][0]["peaks"], PEAKS + 1)
    assert results["a.onnx"][0].runtime == 0.5


def test_we_read_what_polygraphy_writes(tmp_path, polygraphy):
    comparator, _, save_json = polygraphy
    save_json([{"pixels": PIXELS}], str(tmp_path / "in.json"))
    answer = comparator.IterationResult({"peaks": PEAKS}, runtime=0.25, runner_name="trt-runner")
    comparator.RunResults([("trt-runner", [answer])]).save(str(tmp_path / "out.json"))

    assert np.array_equal(load_inputs(tmp_path / "in.json")[0]["pixels"], PIXELS)
    (run,) = load_outputs(tmp_path / "out.json")
    assert (run.runner, run.seconds) == ("trt-runner", [0.25])
    assert np.array_equal(run.outputs[0]["peaks"], PEAKS)


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '[{"pixels": {"array": "?"}}]', json.dumps({"lst": [["a"]]})]
)
def test_another_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "strange.json"
    path.write_text(content)
    with pytest.raises(PolygraphyFileError, match=r"strange\.json: expected outputs as"):
        load_outputs(path)
    if content != "{}":  # no iterations are no inputs, but in order
        with pytest.raises(PolygraphyFileError, match=r"strange\.json: expected inputs as"):
            load_inputs(path)
