"""What is killed again and again: models, also under a load test, and the loop of pruning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.networks.keras_files import load_network
from bodypose_tools.repository.pbtxt import GROUPING, NETWORK, PREPROCESS
from tests.greys import model_processes, urls_in
from tests.integration.test_stopping import hang
from tests.processes import left_by, until_ready
from tests.unit.tools.training.test_train import spec_for

pytestmark = pytest.mark.triton


def test_a_model_that_dies_again_and_again_ends_the_server(serve, tmp_path):
    process = serve()
    until_ready(process)
    for _ in range(3):
        os.kill(model_processes(process, NETWORK)[0], signal.SIGKILL)
        assert any("ready again" in line for line in iter(process.stderr.readline, ""))
    os.kill(model_processes(process, NETWORK)[0], signal.SIGKILL)

    _, stderr = process.communicate(timeout=30)

    assert process.returncode == 1
    assert f"error: {NETWORK}: expected its process to run, got 4 ends of it" in stderr
    assert left_by(process, tmp_path) == []


def test_a_restarted_server_is_errors_in_a_load_test_and_no_request_is_lost(serve):
    """The same seed sends the same requests; what nobody answered is counted, and once."""
    from bodypose_loadtest.orders import Loop
    from bodypose_loadtest.plan import LoadTestPlan
    from bodypose_loadtest.run import run_load_test
    from bodypose_loadtest.scenarios import Load, Scenario
    from bodypose_loadtest.slo import Slo

    process = serve()
    urls = urls_in(until_ready(process))
    plan = LoadTestPlan(
        Scenario.STEADY,
        Load(Loop.OPEN, (20,)),
        duration_s=10,
        warm_up_s=1,
        repeats=1,
        url=f"grpc://{urls['gRPC']}",
        slo=Slo.parse(""),
    )

    def run() -> dict:
        return run_load_test(plan, say=lambda line: None).report["steps"][0]

    undisturbed = run()
    killer = threading.Timer(
        5, lambda: os.kill(model_processes(process, NETWORK)[0], signal.SIGKILL)
    )
    killer.start()
    disturbed = run()
    killer.join()

    assert undisturbed["errors"] == {}
    assert disturbed["requests"] == undisturbed["requests"]
    assert set(disturbed["errors"]) == {"ServerUnavailable"}
    failed = sum(disturbed["errors"].values())
    assert 0 < failed < disturbed["requests"] / 2
    answered = disturbed["goodput"] * disturbed["seconds"]
    assert answered + failed == pytest.approx(disturbed["requests"], abs=3)  # at the window's ends


def test_a_process_that_is_killed_goes_on(tiny_keras, drawn_coco, tmp_path):
    """SIGKILL to the command while it prunes, trains, checkpoints, exports and times."""
    spec = tmp_path / "spec.yaml"  # YAML is a superset of JSON
    spec.write_text(spec_for(drawn_coco, 4).model_dump_json())
    command = [sys.executable, "-m", "bodypose_tools.cli", "optimize", "-e", spec, "-m", tiny_keras]
    command += ["-r", tmp_path / "run", "--steps", "2", "--target-macs", "0.45", "-nf", "8"]
    command += ["--max-ap-drop", "1", "--rounds", "2", "--json", tmp_path / "prune.json"]
    moments = (
        "step_1: pruning",
        "step_1: epoch 1/4",
        "step_1: epoch 3/4",
        "step_1: times as fast",
        "step_2: 1 steps",
        "step_2: exported",
    )
    for moment in moments:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        ) as process:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith(moment):
                    os.killpg(process.pid, signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL, f"{moment}: {lines}"
        for made in (tmp_path / "run").rglob("[!.]*.json"):
            json.loads(made.read_text())
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("best: step_2")
    results = json.loads((tmp_path / "prune.json").read_text())["networks"]["tiny-network"]
    assert results["finished"]
    assert len(results["points"]) == 3
    for point in results["points"][1:]:
        best = Artifact.open(tmp_path / "run" / point["model"])
        assert best.sha256 == point["sha256"]
        assert np.isfinite(point["AP"])
        assert all(np.isfinite(w).all() for w in load_network(best.path)[0].get_weights())


@pytest.mark.parametrize("model", [PREPROCESS, GROUPING, "tritonserver"])
def test_what_hangs_is_noticed_and_replaced(serve, model):
    hang(serve, model)
