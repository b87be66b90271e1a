"""Calibration, placement and gates together, on tiny graphs and on the shipped network."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.quantisation import search
from bodypose_tools.quantisation.calibration import CalibrationError, scales_of
from bodypose_tools.quantisation.gate import AccuracyGateError, Verdict
from bodypose_tools.quantisation.placement import place, prepare
from bodypose_tools.quantisation.search import (
    EARLY_MARGIN,
    Quantised,
    activations,
    calibrated_scales,
    early_judge,
    equalised,
    input_means,
    layer_sensitivity,
    layers_by_weights,
    quantise,
)
from bodypose_tools.quantisation.settings import Calibration, Method, OnMiss
from tests.unit.tools.tiny_graphs import Tiny

IMAGES = [np.random.default_rng(n).normal(size=(3, 8, 8)).astype(np.float32) for n in range(4)]


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def fragile():
    """Model, scales and means of three layers, one of them bad for INT8.

    One of `b`'s input channels is a thousand times the others.
    """
    tiny = Tiny()
    a = tiny.conv("a", tiny.stem(), (16, 16))
    factor = np.ones((1, 16, 1, 1), np.float32)
    factor[0, 3] = 1000
    wide = tiny.op("Mul", "wide", a, tiny.constant("factor", factor))
    b = tiny.conv("b", wide, (16, 16))
    weights = next(t for t in tiny.stored if t.name == "b_w")
    values = onnx.numpy_helper.to_array(weights).copy()
    values[:, 3] /= 1000
    weights.CopyFrom(onnx.numpy_helper.from_array(values, "b_w"))
    tiny.conv("head", tiny.conv("c", b, (16, 16)), (16, 19))
    model = prepare(tiny.model("head_out"))
    names = place(model).tensors
    scales = scales_of(names, activations(model, names), IMAGES, Method.MAX)
    return model, scales, input_means(model, IMAGES)


def error_of(model: onnx.ModelProto):
    """Measures a graph by the relative error of its head."""
    expected = activations(model, ["head_out"])(IMAGES[0])[0]

    def error(candidate: Path) -> float:
        got = activations(onnx.load(candidate), ["head_out"])(IMAGES[0])[0]
        return float(np.abs(got - expected).mean() / np.abs(expected).mean())

    return error


def attempt(fragile, limit: float, on_miss: OnMiss, passes=None):
    """Quantise behind a gate; `passes` asks more of the error than to be within the limit."""
    error = error_of(fragile[0])

    def judge(candidate: Path) -> Verdict:
        got = error(candidate)
        passed = got <= limit and (passes is None or passes(candidate))
        return Verdict("relative error", got, limit, passed)

    return quantise(*fragile, [judge], on_miss, lambda: error, quiet)


def test_the_layer_that_int8_hurts_most_comes_first(fragile):
    losses = layer_sensitivity(*fragile, error_of(fragile[0]))
    assert next(iter(losses)) == "b"
    assert set(losses) == {"a", "b", "c"}


def test_a_missed_gate_is_refused_at_once_and_names_the_search(fragile):
    asked = []

    def passes(_: Path) -> bool:
        asked.append(1)
        return False

    with pytest.raises(AccuracyGateError, match=r"nothing was written: --auto-mixed searches"):
        attempt(fragile, 10.0, OnMiss.REPORT, passes)
    assert len(asked) == 1


def test_the_search_says_what_it_will_do_and_for_how_long(fragile):
    said: list[str] = []
    error = error_of(fragile[0])

    quantise(
        *fragile,
        [lambda candidate: Verdict("error", error(candidate), 0.05, error(candidate) <= 0.05)],
        OnMiss.MIX,
        lambda: error,
        said.append,
    )

    assert said[0] == "INT8: trying every layer that INT8 has"
    plan = next(line for line in said if "the search" in line)
    assert plan == "the search runs 3 layers alone in INT8 and then up to 7 graphs: about 1 min"


def test_auto_mixed_moves_the_fewest_layers_to_float(fragile):
    made = attempt(fragile, 0.05, OnMiss.MIX)
    assert made.float_layers == ("b",)
    assert made.int8_layers == 2
    # stem and head: 3 and 19 of 16 channels
    assert made.macs_share == pytest.approx(2 * 16 / (3 + 3 * 16 + 19))
    assert made.verdicts[0].passed


def test_a_moved_layer_goes_back_to_int8_when_the_judges_can_spare_it(fragile):
    """The worst layer by itself is moved first, but the gate wants only `c` in float."""

    def passes(candidate: Path) -> bool:
        return "c_weights_int8" not in {t.name for t in onnx.load(candidate).graph.initializer}

    assert attempt(fragile, 10.0, OnMiss.MIX, passes).float_layers == ("c",)


def test_layers_with_the_same_weights_are_in_int8_together():
    tiny = Tiny()
    first = tiny.conv("once", tiny.stem(), (16, 16))
    second = tiny.conv("again", first, (16, 16))
    next(node for node in tiny.nodes if node.name == "again").input[1] = "once_w"
    model = prepare(tiny.model(tiny.conv("head", tiny.conv("last", second, (16, 16)), (16, 19))))
    layers = place(model).layers
    assert layers_by_weights(model, layers) == {"once": ("once", "again"), "last": ("last",)}


def test_what_passes_at_once_stays_all_int8(fragile):
    assert attempt(fragile, 10.0, OnMiss.MIX).float_layers == ()


def test_a_gate_that_no_graph_passes_is_an_error(fragile):
    with pytest.raises(AccuracyGateError, match=r"within -1.*most sensitive layers: b \d"):
        attempt(fragile, -1.0, OnMiss.MIX)


def test_a_cache_of_another_tool_knows_the_channels_as_they_are(fragile, tmp_path):
    model, cache = fragile[0], tmp_path / "cal.bin"
    calibration = Calibration(4, Method.MAX, cache_file=cache)
    said = []
    even = equalised(model, calibration, IMAGES, said.append)
    assert even != model
    assert not said
    cache.write_text("TRT-8501-EntropyCalibration2\n")
    assert equalised(model, calibration, IMAGES, said.append) == model
    assert "was not written by `tools export`" in said[0]


def export(out: Path, *options: str) -> object:
    files = ("-m", str(SHIPPED_MODEL), "-o", str(out), "--data_type", "int8")
    return CliRunner().invoke(app, ["export", *files, *options])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine_file", "net.plan"), "TensorRT has signed INT8 only"),
        (("--data_type", "fp16"), "are for --data-type int8"),
    ],
)
def test_unsigned_activations_are_for_int8_on_cpus(tmp_path, options, said):
    result = export(tmp_path / "model.onnx", "--unsigned_activations", *options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("\u2502", " ").split())


def test_calibration_needs_images(tmp_path):
    result = export(tmp_path / "model.onnx", "--batches", "1")
    assert isinstance(result.exception, CalibrationError)
    assert "tools sample-calibration-images" in " ".join(str(result.exception).split())


def searched(needed: int, layers: int):
    """How many layers were in float at each attempt, when so many must be, and what was found."""
    tried = []

    def attempt(first):
        tried.append(len(first))
        return Quantised(None, 0, tuple(first), 0.0, (Verdict("x", 0, 0, len(first) >= needed),))

    order = [f"layer_{number}" for number in range(layers)]
    found = search._fewest_moved(attempt, order)
    return tried, found and (found[0].float_layers, found[1])


@pytest.mark.parametrize(
    ("needed", "tried"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 4, 3]), (5, [1, 2, 4, 8, 6, 5]), (9, [1, 2, 4, 8, 10, 9])],
)
def test_layers_are_doubled_and_then_halved_in(needed, tried):
    names = tuple(f"layer_{number}" for number in range(needed))
    assert searched(needed, 10) == (tried, (names, list(names)))


def test_when_no_number_of_layers_is_enough_nothing_is_found():
    assert searched(11, 10) == ([1, 2, 4, 8, 10], None)
    assert searched(2, 1) == ([1], None)


def test_the_most_costly_layers_are_tried_in_int8_again():
    tried = []

    def attempt(first):
        tried.append(list(first))
        kept = Verdict("x", 0, 0, "c" in first)
        return Quantised(None, 0, tuple(first), 0.0, (kept,))

    work = {"a": 1, "b": 5, "c": 9}
    made = search._fewer_moved(attempt, None, ["a", "b", "c"], work)

    assert tried == [["a", "b"], ["a", "c"], ["c"]]
    assert made.float_layers == ("c",)
    many = {f"layer_{number:02}": number for number in range(12)}
    tried.clear()
    search._fewer_moved(attempt, None, list(many), many)
    assert [sorted(set(many) - set(each)) for each in tried] == [
        [f"layer_{number:02}"] for number in range(11, 3, -1)
    ]


@pytest.mark.parametrize(
    ("layers", "seconds", "graphs", "minutes"),
    [(3, 1.0, 7, 1), (7, 8.0, 13, 2), (8, 64.0, 16, 19), (100, 60.0, 22, 41), (1, 60.0, 3, 4)],
)
def test_the_plan_counts_graphs_and_minutes(layers, seconds, graphs, minutes):
    """A layer alone takes 12 images where a gate takes 64."""
    assert search._graphs_of_search(layers) == graphs
    assert search._search_minutes(layers, seconds) == minutes


def test_64_images_are_the_most_that_a_gate_runs():
    made = [np.full((2, 2, 3), number, np.uint8) for number in range(70)]
    assert search.gate_images(lambda: iter(made[:5])).shape == (5, 2, 2, 3)
    assert search.gate_images(lambda: iter(made))[:, 0, 0, 0].tolist() == list(range(64))


def test_a_layers_loss_is_told_largest_first(fragile):
    losses = layer_sensitivity(*fragile, error_of(fragile[0]))
    assert list(losses.values()) == sorted(losses.values(), reverse=True)
    without = layer_sensitivity(*fragile, error_of(fragile[0]), ["b"])
    assert set(without) == {"a", "c"}


def test_an_output_of_the_graph_is_observed_once(fragile):
    model = fragile[0]
    head, a = activations(model, ["head_out", "a_out"])(IMAGES[0])
    assert (head.shape[1], a.shape[1]) == (19, 16)


@pytest.mark.parametrize(
    ("share", "passes"), [(0.99, True), (0.99 - EARLY_MARGIN + 1e-6, True), (0.9, False)]
)
def test_more_images_may_mend_a_small_miss_only(tmp_path, share, passes):
    def quick(_: Path) -> Verdict:
        return Verdict("joints", share, 0.99, share >= 0.99)

    verdict = early_judge(quick, 512)(tmp_path)
    assert verdict.passed is passes
    assert str(verdict).startswith("joints, after 48 of 512 calibration images, ")


def test_scales_are_read_from_the_cache_that_an_earlier_run_wrote(fragile, tmp_path):
    model, *_ = fragile
    path = tmp_path / "source.onnx"
    onnx.save(model, path)
    source = Artifact.record(path, "export")

    def scales(cache, images):
        calibration = Calibration(len(IMAGES), Method.MAX, cache_file=cache)
        said = []
        found = calibrated_scales(
            model, source, calibration, images, (8, 8), said.append, early=None
        )
        return *found, said

    cache = tmp_path / "cal.bin"
    computed, settings, _ = scales(cache, lambda: iter(IMAGES))
    assert settings == {"method": "max", "images": 4}
    read, settings, said = scales(cache, lambda: pytest.fail("images are not read again"))
    assert read == pytest.approx(computed)
    assert settings["cache"] == "cal.bin"
    assert said == [f"calibration: scales of {cache}"]
    assert scales(None, lambda: iter(IMAGES))[0] == computed
