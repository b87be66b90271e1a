"""The search for serving settings, on a made-up server, and the file that build-repo reads."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bodypose_tools.benchmark.settings import Objective
from bodypose_tools.benchmark.tune import Goal, TuneError, draw_curve, search, write_tuning
from bodypose_tools.cli import app
from bodypose_tools.repository.build import CONFIG, build_repository, changes_since_build
from bodypose_tools.repository.pbtxt import GROUPING, NETWORK, PREPROCESS, STEPS, read_config
from bodypose_tools.repository.targets import MAX_BATCH_SIZE, tuned
from bodypose_tools.repository.tuning import UNTUNED, Tuning, TuningFileError
from pose_runtime.spec import PipelineSpec

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
CHOSEN = Tuning(
    preprocess_instances=2,
    network_instances=3,
    network_batch=4,
    queue_delay_us=700,
    threads=2,
    precision="bf16",
)


def step(clients: int, images_per_s: float, median: float, p99: float) -> dict:
    latency = {"median": median, "p10": median, "p90": median, "p99": p99}
    return {"clients": clients, "images_per_s": images_per_s, "latency_ms": latency, "refused": 0}


def server(tuning: Tuning) -> list[dict]:
    """Two instances serve more images, but later; batches and any delay cost time."""
    rate = 30 + 10 * (tuning.network_instances == 2) - (tuning.network_batch > 1)
    rate -= tuning.queue_delay_us / 1000
    median = 1000 / 30 * tuning.network_instances + tuning.queue_delay_us / 1000
    return [step(1, rate / 2, median, median + 5), step(4, rate, 4 * median, 5 * median)]


def found(goal: Goal, cores: int = 4) -> list:
    return search(server, goal, cores, lambda trial: None)


def test_throughput_takes_what_serves_most_images():
    best = found(Goal(Objective.THROUGHPUT))[0]
    assert (best.tuning.network_instances, best.tuning.threads) == (2, 2)
    assert best.tuning.network_batch == 1
    assert best.tuning.queue_delay_us == 0
    assert best.score == pytest.approx(40)


def test_latency_takes_what_answers_one_client_first():
    best = found(Goal(Objective.LATENCY))[0]
    assert best.tuning.network_instances == 1


def test_what_answers_too_late_does_not_count():
    best = found(Goal(Objective.THROUGHPUT, max_p99_ms=180))[0]
    assert best.tuning.network_instances == 1  # two instances would answer in 333 ms at 4 clients


def test_no_setting_within_the_limit_is_an_error():
    with pytest.raises(TuneError, match="p99 of at most 1 ms, the least was 38"):
        found(Goal(Objective.THROUGHPUT, max_p99_ms=1))


def test_without_a_server_nothing_is_waited_for(tmp_path, tiny_onnx: Callable[..., Path]):
    repository = tmp_path / "repository"
    build_repository(tiny_onnx(tmp_path / "tiny.onnx", SPEC), repository)
    with socket.socket() as taken:  # nobody listens there
        taken.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--url", url, "--repository", str(repository), "-o", str(tmp_path / "t.json")]
        result = CliRunner().invoke(app, ["tune", *options])

    assert isinstance(result.exception, TuneError)
    assert str(result.exception).startswith(f"{url}: expected a running server, got no answer")
    assert changes_since_build(repository) == []


def test_no_setting_is_tried_twice_or_has_more_threads_than_cores():
    trials = found(Goal(Objective.THROUGHPUT), cores=4)
    settings = [trial.tuning for trial in trials]
    assert len(set(settings)) == len(settings) > 5
    assert all(each.network_instances * max(each.threads, 1) <= 4 for each in settings)


def test_the_knee_is_where_more_clients_bring_nothing():
    trial = found(Goal(Objective.THROUGHPUT))[0]
    flat = [step(1, 20, 1, 1), step(2, 39, 1, 1), step(4, 40, 2, 2)]
    assert replace(trial, curve=flat).knee["clients"] == 2


def test_settings_trials_and_curve_are_written(tmp_path, tiny_onnx: Callable[..., Path]):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    goal = Goal(Objective.THROUGHPUT)
    trials = found(goal)
    everything = write_tuning(tmp_path / "tuning.json", trials, model, goal, "a made-up server")
    draw_curve(tmp_path / "tuning.png", trials)
    written = Tuning.load(tmp_path / "tuning.json")
    assert written == replace(trials[0].tuning, measured_on="a made-up server")
    assert len(json.loads(everything.read_text())["trials"]) == len(trials)
    assert (tmp_path / "tuning.png").read_bytes().startswith(b"\x89PNG")


def test_build_repo_reads_them_and_a_second_build_is_the_same(
    tmp_path, tiny_onnx: Callable[..., Path]
):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    (tmp_path / "tuning.json").write_text(CHOSEN.to_json())
    command = ["build-repo", str(model), "--tuning", str(tmp_path / "tuning.json"), "-o"]
    for name in ("one", "two"):
        result = CliRunner().invoke(app, [*command, str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        assert not changes_since_build(tmp_path / name)
    files = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    ]
    assert files[0] == files[1]
    configs = {name: read_config(tmp_path / "one" / name / CONFIG) for name in STEPS}
    assert configs[PREPROCESS].instance_group[0].count == 2
    assert configs[NETWORK].instance_group[0].count == 3
    assert configs[GROUPING].instance_group[0].count == 1
    assert configs[NETWORK].dynamic_batching.max_queue_delay_microseconds == 700
    assert configs[NETWORK].parameters["threads"].string_value == "2"
    assert configs[NETWORK].parameters["precision"].string_value == "bf16"
    assert configs[NETWORK].parameters["batch"].string_value == "4"
    assert {config.max_batch_size for config in configs.values()} == {MAX_BATCH_SIZE}


@pytest.mark.parametrize(("settings", "precision"), [(UNTUNED, "bf16"), (CHOSEN, "f32")])
def test_the_precision_alone_can_be_given_too(
    tmp_path, tiny_onnx: Callable[..., Path], settings, precision
):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    (tmp_path / "tuning.json").write_text(settings.to_json())
    command = ["build-repo", str(model), "-o", str(tmp_path / "built"), "--precision", precision]
    if settings is not UNTUNED:
        command += ["--tuning", str(tmp_path / "tuning.json")]
    assert CliRunner().invoke(app, command).exit_code == 0
    parameters = read_config(tmp_path / "built" / NETWORK / CONFIG).parameters
    assert parameters["precision"].string_value == precision != settings.precision
    assert parameters["threads"].string_value == str(settings.threads)
    refused = CliRunner().invoke(app, [*command, "--target", "cpu"])
    assert refused.exit_code == 2
    assert "expected a network that model.py runs" in " ".join(refused.output.split())


def test_without_settings_a_build_is_as_before(tmp_path, tiny_onnx: Callable[..., Path]):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    build_repository(model, tmp_path / "plain")
    build_repository(model, tmp_path / "tuned", tuned(Tuning()))
    one, other = ((tmp_path / name / NETWORK / CONFIG).read_bytes() for name in ("plain", "tuned"))
    assert one == other


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"threads": -1}', "threads: expected an integer from 0 on, got -1"),
        ('{"network_batch": "8"}', "network_batch: expected an integer from 1 on"),
        ('{"precision": "int4"}', "precision: expected one of f32, bf16 on cpu, got 'int4'"),
        ('{"speed": 11}', "the unknown setting 'speed'"),
        ("[]", "expected the settings of `tools tune`"),
        ("{", "expected the settings of `tools tune`"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, said):
    (tmp_path / "tuning.json").write_text(text)
    with pytest.raises(TuningFileError, match=said):
        Tuning.load(tmp_path / "tuning.json")
    with pytest.raises(TuningFileError, match="run `tools tune -o"):
        Tuning.load(tmp_path / "nothing.json")
