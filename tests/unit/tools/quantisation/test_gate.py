import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.data.photos import packaged_images
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.graphs.index import OnnxGraph
from bodypose_tools.quantisation import gate as accuracy_gate
from bodypose_tools.quantisation.gate import (
    AccuracyGateError,
    first_miss,
    peak_agreement,
    peak_loss,
)
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.runtimes.settings import GraphRuntime


def test_joints_agree_within_half_a_cell():
    peaks = np.zeros((1, 1, 3, 3), np.float32)
    peaks[0, 0, :2] = [[10, 10, 0.9], [50, 50, 0.12]]  # the second is too close to the threshold
    for shift, share in ((0, 1), (3.9, 1), (4.1, 0)):
        moved = peaks + np.float32([shift, 0, 0])
        assert peak_agreement(peaks, moved, 0.1) == share
    assert peak_agreement(peaks, np.zeros_like(peaks), 0.1) == 0
    assert peak_agreement(np.zeros_like(peaks), np.zeros_like(peaks), 0.1) == 1


def test_a_peak_loses_more_the_farther_it_is():
    peaks = np.zeros((1, 1, 3, 3), np.float32)
    peaks[0, 0, 0] = [10, 10, 0.9]
    losses = [peak_loss(peaks, peaks + np.float32([d, 0, 0]), 0.1) for d in (0, 1, 2, 30)]
    assert losses == sorted(losses)
    assert losses[0] == 0
    assert losses[2] == pytest.approx(1 - np.exp(-0.5))  # two pixels are one standard deviation
    assert losses[3] == pytest.approx(1)
    assert peak_loss(np.zeros_like(peaks), np.zeros_like(peaks), 0.1) == 0


def test_later_gates_are_not_asked_after_a_miss(tmp_path):
    asked = []

    def gate(name: str, passed: bool):
        def judge(candidate):
            asked.append(name)
            return accuracy_gate.Verdict(name, 0.0, 0.0, passed)

        return judge

    judges = [gate("joints", True), gate("fields", False), gate("AP", True)]
    assert [v.passed for v in first_miss(judges, tmp_path)] == [True, False]
    assert asked == ["joints", "fields"]


def run_gate(drawn_coco, *options: str) -> object:
    models = (str(SHIPPED_MODEL), str(SHIPPED_MODEL))
    split = ("-a", str(drawn_coco / "people.json"), "-i", str(drawn_coco))
    return CliRunner().invoke(app, ["gate", *models, *split, *options])


@pytest.fixture
def scored(monkeypatch):
    """AP of the float model, then of the candidate."""

    def use(*scores: float) -> None:
        answers = iter(scores)
        monkeypatch.setattr(
            accuracy_gate,
            "evaluate_pool",
            lambda *_, **__: SimpleNamespace(numbers={"AP": next(answers)}),
        )

    return use


def test_a_small_loss_of_ap_passes_and_is_recorded(drawn_coco, tmp_path, scored):
    scored(0.3, 0.296)
    result = run_gate(drawn_coco, "--json", str(tmp_path / "gate.json"))
    assert result.exit_code == 0, result.output
    assert "AP 0.3000 -> 0.2960, drop 0.0040, at most 0.005" in result.output
    record = json.loads((tmp_path / "gate.json").read_text())
    assert record["verdict"]["passed"]
    assert record["float"]["model"]["sha256"] == Artifact.open(SHIPPED_MODEL).sha256
    assert record["runtime"] == "onnxruntime"


def test_the_shipped_graph_has_the_same_joints_in_every_runtime_of_the_cpu():
    pixels = packaged_images(spec_in_onnx(SHIPPED_MODEL).network_hw)
    of_cpu = [of for of in GraphRuntime if of.in_float32 is not GraphRuntime.CUDA_F32]
    answers = {of: open_predictor(SHIPPED_MODEL, of)[0](pixels) for of in of_cpu}
    for peaks, limb_scores in answers.values():
        assert peaks.shape == (len(pixels), 18, 20, 3)
        assert limb_scores.shape == (len(pixels), 19, 20, 20)
    expected = answers[GraphRuntime.ONNX_RUNTIME][0]
    assert peak_agreement(expected, answers[GraphRuntime.OPENVINO][0], 0.2) == 1
    assert peak_agreement(expected, answers[GraphRuntime.OPENVINO_BF16][0], 0.2) > 0.9


def test_bfloat16_is_held_against_float32(drawn_coco, scored, monkeypatch):
    asked: list[GraphRuntime] = []

    def opened(model, runtime):
        asked.append(runtime)
        return open_predictor(model)

    scored(0.3, 0.296)
    monkeypatch.setattr(accuracy_gate, "open_predictor", opened)
    result = run_gate(drawn_coco, "--runtime", "openvino-bf16")
    assert result.exit_code == 0, result.output
    assert asked == [GraphRuntime.OPENVINO, GraphRuntime.OPENVINO_BF16]


def test_a_larger_loss_is_an_error(drawn_coco, scored):
    scored(0.3, 0.294)
    result = run_gate(drawn_coco)
    assert isinstance(result.exception, AccuracyGateError)
    assert "expected an AP drop of at most 0.005" in str(result.exception)


def test_splits_are_pooled_and_named(drawn_coco, tmp_path, scored):
    scored(0.3, 0.3)
    split = ("-a", str(drawn_coco / "people.json"), "-i", str(drawn_coco), "--max-images", "2")
    result = run_gate(drawn_coco, *split, "--json", str(tmp_path / "gate.json"))
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "gate.json").read_text())
    assert record["split"] == "people.json (2) + people.json (2)"
    uneven = run_gate(drawn_coco, "-a", str(drawn_coco / "people.json"))
    assert "got 2 files and 1 folders" in str(uneven.exception)


@pytest.mark.slow
def test_float16_finds_the_same_joints_behind_the_same_contract(tmp_path):
    out = tmp_path / "half.onnx"
    files = ("-m", str(SHIPPED_MODEL), "-o", str(out))
    result = CliRunner().invoke(app, ["export", *files, "--data_type", "fp16"])
    assert result.exit_code == 0, result.output
    assert "1.0000 of the joints stay" in result.output
    assert spec_in_onnx(out) == spec_in_onnx(SHIPPED_MODEL)
    graph, whole = OnnxGraph(onnx.load(out)), OnnxGraph(onnx.load(SHIPPED_MODEL))
    weights = [graph.constant(n.input[1]) for n in graph.nodes if graph.is_weighted(n)]
    assert len(weights) == len([node for node in whole.nodes if whole.is_weighted(node)])
    assert {values.dtype for values in weights} == {np.dtype(np.float16)}


def test_a_peak_of_either_side_counts_from_a_margin_above_the_threshold_on():
    """Of the first model two peaks are clear, of the other three: four of five stay."""
    ours, theirs = np.zeros((2, 1, 2, 3, 3), np.float32)
    ours[0, 0, :2] = [[10, 10, 0.625], [50, 50, 0.625]]
    theirs[0, 0] = [[10, 14, 0.625], [50, 50, 0.625], [90, 90, 0.625]]

    assert peak_agreement(ours, theirs, 0.575) == pytest.approx(4 / 5)
    assert peak_agreement(ours, theirs, 0.576) == 1  # nothing is clear
    far = 1.0
    loss = (2 * (1 - np.exp(-(4**2) / 2 / 2**2)) + far) / 5
    assert peak_loss(ours, theirs, 0.575) == pytest.approx(loss)
    assert peak_loss(ours, theirs, 0.576) == 0


def test_a_verdict_says_what_was_measured_and_its_limit():
    assert str(accuracy_gate.Verdict("AP drop", 0.01234, 0.005, False)) == (
        "AP drop 0.0123, limit 0.005"
    )


@pytest.mark.parametrize(("share", "passed"), [(0.98, True), (0.979, False)])
def test_the_least_share_passes(monkeypatch, tmp_path, share, passed):
    monkeypatch.setattr(accuracy_gate, "peaks_against", lambda *given: lambda candidate: share)
    judge = accuracy_gate.agreement_judge(tmp_path, None, 0.98, GraphRuntime.ONNX_RUNTIME)
    verdict = judge(tmp_path)
    assert (verdict.value, verdict.limit, verdict.passed) == (share, 0.98, passed)


@pytest.mark.parametrize(("got", "passed"), [(0.25, True), (0.2499, False), (0.9, True)])
def test_the_largest_drop_passes(monkeypatch, tmp_path, got, passed):
    named = {"float": 0.5, "int8": got}
    spec = SimpleNamespace(skeleton=None)
    monkeypatch.setattr(
        accuracy_gate, "open_predictor", lambda path, runtime: (path.name, spec, None)
    )
    monkeypatch.setattr(accuracy_gate, "pool", lambda splits, skeleton: splits)
    monkeypatch.setattr(
        accuracy_gate,
        "evaluate_pool",
        lambda predict, *_, **__: SimpleNamespace(numbers={"AP": named[predict]}),
    )
    judge = accuracy_gate.ap_judge(tmp_path / "float", [], 0.25, GraphRuntime.ONNX_RUNTIME)
    verdict = judge(tmp_path / "int8")
    assert (verdict.measure, verdict.passed) == ("AP drop from 0.5000", passed)
    assert verdict.value == pytest.approx(0.5 - got)


def test_peaks_are_predicted_image_by_image():
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)
    seen = []

    def predict(batch):
        seen.append(batch.shape)
        return np.full((1, 1, 1, 3), batch.max(), np.float32), None

    peaks = accuracy_gate.peaks_of(predict, images)
    assert seen == [(1, 2, 2, 3)] * 3
    assert peaks[:, 0, 0, 0].tolist() == [0, 1, 2]
