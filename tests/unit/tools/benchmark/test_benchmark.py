"""The benchmark's own pieces: its clock, its crowds, its load and its page. Nothing is timed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from bodypose_tools.benchmark import crowds, report, rivals
from bodypose_tools.benchmark.conditions import Setting
from bodypose_tools.benchmark.rivals import Contest
from bodypose_tools.benchmark.run import SCHEMA, BenchmarkError, read_results, run_benchmark
from bodypose_tools.benchmark.settings import Effort
from bodypose_tools.cli import app
from bodypose_tools.data.photos import photo_jpeg
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.runtimes.clock import compared, take_turns
from pose_runtime.grouping import group_poses
from pose_runtime.spec import PipelineSpec

SPEC = PipelineSpec()


def test_sides_take_turns_and_are_compared_round_by_round():
    now, order = [0.0], []

    def side(name, seconds):
        def run():
            order.append(name)
            now[0] += seconds

        return run

    seconds = take_turns(
        {"slow": side("slow", 0.4), "fast": side("fast", 0.1)}, rounds=3, clock=lambda: now[0]
    )
    assert order[6:] == ["slow", "fast", "fast", "slow", "slow", "fast"]
    result = compared(seconds, "slow")
    assert result["fast"]["times_as_fast"]["median"] == 4
    assert result["slow"]["milliseconds"] == {"median": 400, "p10": 400, "p90": 400}


@pytest.mark.parametrize("num_people", [0, 1, 10, 50])
def test_a_crowd_is_grouped_into_its_people(num_people):
    spec = crowds.with_peaks(SPEC, num_people)
    poses = group_poses(*crowds.crowd(spec, num_people), spec.skeleton, spec.grouping)
    assert poses.num_keypoints.tolist() == [18] * num_people


def test_noise_fills_every_place():
    peaks, limb_scores = crowds.noise(SPEC)
    assert peaks[:, :, 2].min() > SPEC.grouping.min_peak_score
    assert limb_scores.min() > SPEC.grouping.min_limb_score


def test_the_photo_has_the_size_asked_for():
    from pose_runtime.image_headers import image_size

    assert image_size(photo_jpeg(1920, 1080)) == (1080, 1920)


def spent(median: float, ratio: float = 1.0) -> dict:
    return {
        "milliseconds": {"median": median, "p10": median, "p90": median},
        "times_as_fast": {"median": ratio, "p10": ratio, "p90": ratio},
    }


def sure(median: float) -> dict:
    return {"median": median, "low": 0.99 * median, "high": 1.01 * median, "pairs": 8}


def results() -> dict:
    people = {str(n): spent(n / 250)["milliseconds"] for n in (1, 10, 20, 50)}
    step = {
        "clients": 2,
        "images_per_s": 30.0,
        "latency_ms": {"median": 60.0, "p10": 50.0, "p90": 70.0, "p99": 80.0},
        "refused": 3,
    }
    return {
        "schema": SCHEMA,
        "model": {"name": "m.onnx", "sha256": "ab" * 32},
        "effort": "quick",
        "threads": 2,
        "made": {
            "noise": {"spread": 0.2, "too_noisy": True},
            "date": "2026-11-24T00:00:00+00:00",
            "machine": {"cpu": "C", "instructions": ["avx2"], "cores": 2, "load_before": 0.1},
        },
        "decoding": {
            "grouping": {"by_people": people, "noise": spent(2.0)["milliseconds"]},
            "layers": {"openvino": spent(0.5)},
        },
        "preprocessing": {
            "640x480 quality 75": {
                "opencv": spent(2),
                "ours": spent(1, 2.0),
                "least": spent(0.5, 4.0),
            }
        },
        "runtimes": {
            "by_batch": {"1": {"openvino f32": spent(20)}},
            "throughput_hint_images_per_s": {"f32": {"latency": {"median": 50}}},
        },
        "serving": {
            "cold_start": {"ready_s": sure(3.0), "rss_mb": 700},
            "memory_after": {"rss_mb": 707, "images": 900},
            "share_of_ideal": sure(0.9),
            "one_client": {"added_ms": sure(1.5), "above_network_ms": sure(3.5)},
            "by_clients": {"grpc": [step]},
            "knee": step,
            "overload": {"share_of_peak": {**sure(0.97), "low": 0.9}, "above": step},
            "client_side": {"times_as_fast": sure(1.1)},
        },
        "rivals": {
            "sides": {
                "bodypose-s, openvino f32": spent(20),
                "bodypose-s in INT8, openvino bf16": spent(10, 2.0),
                "bodypose-xs in INT8, openvino bf16": spent(7, 2.9),
                "bodypose-vgg19, onnxruntime f32": spent(400, 0.05),
                "movenet-multipose, openvino f32": spent(16, 1.2),
                "movenet-multipose, openvino bf16": spent(8, 2.5),
            },
            "against": {
                "bodypose-vgg19, onnxruntime f32": {"bodypose-xs in INT8, openvino bf16": sure(57)},
                "movenet-multipose, openvino bf16": {
                    "bodypose-s in INT8, openvino bf16": sure(0.6),
                    "bodypose-xs in INT8, openvino bf16": sure(1.1),
                },
            },
            "ap": {
                "bodypose-xs in INT8, openvino bf16": {
                    "AP": 0.36,
                    "above movenet-multipose, openvino bf16": {
                        "difference": -0.001,
                        "low": -0.01,
                        "high": 0.009,
                    },
                },
                "movenet-multipose, openvino bf16": {"AP": 0.361},
            },
        },
    }


@pytest.mark.parametrize(("flags", "in_int8"), [("avx2", 0), ("avx2 avx512_vnni", 2)])
def test_of_the_shipped_model_both_sizes_run_and_int8_where_its_sums_are_exact(
    flags, in_int8, monkeypatch
):
    monkeypatch.setattr(rivals, "cpu_flags", lambda: frozenset(flags.split()))
    sides = rivals.our_sides(SHIPPED_MODEL, ("f32", "bf16"))
    assert sum("in INT8, openvino bf16" in name for name in sides) == in_int8
    assert {"bodypose-s, openvino f32", "bodypose-xs, openvino bf16"} <= set(sides)
    assert all(graph.is_file() for graph, _ in sides.values())
    assert len(rivals.measured_graphs(SHIPPED_MODEL)) == 2 + in_int8


def test_of_another_model_its_own_graph_alone_runs(tmp_path):
    sides = rivals.our_sides(tmp_path / "mine.onnx", ("f32",))
    assert sides == {"mine, openvino f32": (tmp_path / "mine.onnx", "f32")}


XS = "bodypose-xs in INT8, openvino bf16"


def test_each_goal_is_held_against_what_was_measured():
    held = {row.subject: row.outcome for row in report.rows_of(results())}
    for subject, outcome in {
        "grouping, 10 people": "met",
        "grouping, 50 people against 10": "met",
        "decoding layers (openvino) and grouping of 10 people": "met",
        "ready": "met",
        "memory of all processes": "met",
        "ensemble against the in-process ideal": "missed",
        "one client: latency above the steps": "met",
        "throughput at 8 times the knee's clients": "not decided",
        "ensemble against pre- and postprocessing in a Python client": "missed",
        "one client: latency above the network": "met",
        f"{XS}, against bodypose-vgg19, onnxruntime f32": "met",
        f"{XS}, against movenet-multipose, openvino bf16": "met",
        f"AP of {XS}, above movenet-multipose, openvino bf16": "missed",
        "bodypose-s in INT8, openvino bf16, against movenet-multipose, openvino bf16": "missed",
        "decode and letterbox, 640x480 quality 75, against OpenCV": "met",
    }.items():
        assert held[subject] == outcome, subject
    assert "bodypose-s, openvino f32, against movenet-multipose, openvino bf16" not in held


def test_a_goal_inside_the_middle_of_the_rounds_is_not_decided():
    record = results()
    record["decoding"]["grouping"]["by_people"]["20"] = {"median": 0.1, "p10": 0.08, "p90": 0.21}
    held = {row.subject: row.outcome for row in report.rows_of(record)}
    assert held["grouping, 20 people"] == "not decided"


def test_the_page_says_when_the_machine_was_too_noisy():
    assert "A fixed job varied by 20% meanwhile: too noisy" in report.report(results(), "", {})


def test_the_page_and_its_pictures_are_made_from_the_results_alone(tmp_path):
    (tmp_path / "performance.json").write_text(json.dumps(results()))
    (tmp_path / "notes.md").write_text("## What holds it\n\nThe network.\n")
    page = tmp_path / "docs" / "performance.md"
    command = ["benchmark-report", str(tmp_path / "performance.json"), "-o", str(page)]
    result = CliRunner().invoke(app, [*command, "--notes", str(tmp_path / "notes.md")])
    assert result.exit_code == 0, result.output
    assert "missed: ensemble against the in-process ideal" in result.output
    text = page.read_text()
    assert "| grouping, 10 people | 0.040 ms | <= 0.05 ms | met |" in text
    assert text.endswith("## What holds it\n\nThe network.\n")
    pictures = sorted((page.parent / "results").glob("*.png"))
    assert len(pictures) == 5
    assert all(f"(results/{picture.name})" in text for picture in pictures)


@pytest.mark.parametrize(("effort", "stays"), [("quick", True), ("full", False)])
def test_subjects_that_are_not_named_stay_if_they_are_of_the_same_run(
    tmp_path, monkeypatch, effort, stays
):
    from bodypose_tools.benchmark import run
    from bodypose_tools.files.shipped import SHIPPED_MODEL
    from bodypose_tools.results.record import Measurement

    subjects = dict.fromkeys(("decoding", "rivals"), lambda setting: "new")
    monkeypatch.setattr(run, "subjects_of", lambda contest: subjects)
    setting = Setting(SHIPPED_MODEL, Effort.QUICK, 1, None, lambda line: None)
    known = {
        **Measurement().record(run_benchmark(setting, ["rivals"], Contest())),
        "rivals": "old",
        "effort": effort,
    }
    record = run_benchmark(setting, ["decoding"], Contest(), known=known)
    assert record["decoding"] == "new"
    assert record.get("rivals") == ("old" if stays else None)


def test_results_of_something_else_are_refused(tmp_path):
    with pytest.raises(BenchmarkError, match="run `tools benchmark -o"):
        read_results(tmp_path / "nothing.json")
    (tmp_path / "other.json").write_text('{"schema": "other/1"}')
    with pytest.raises(BenchmarkError, match="expected results of `tools benchmark`"):
        read_results(tmp_path / "other.json")


def test_a_subject_that_does_not_exist_is_named(tmp_path):
    setting = Setting(tmp_path / "m.onnx", Effort.QUICK, 1, None, lambda line: None)
    with pytest.raises(BenchmarkError, match="'sevring': expected one of decoding, preprocess"):
        run_benchmark(setting, ["sevring"], Contest())
