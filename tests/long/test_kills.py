"""Models that are killed again and again, and killed under a load test."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from bodypose_tools.repository.pbtxt import NETWORK
from tests.greys import model_processes, urls_in
from tests.processes import left_by, until_ready

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
    from bodypose_loadtest.plan import Plan
    from bodypose_loadtest.run import run_load_test
    from bodypose_loadtest.scenarios import Load, Scenario
    from bodypose_loadtest.slo import Slo

    process = serve()
    urls = urls_in(until_ready(process))
    plan = Plan(
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
