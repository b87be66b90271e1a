"""Requests and steps written down by hand."""

from dataclasses import replace

import numpy as np
import pytest

from bodypose_loadtest.orders import Loop
from bodypose_loadtest.records import RECORD, Records
from bodypose_loadtest.report import SCHEMA
from bodypose_loadtest.scenarios import Step
from bodypose_loadtest.step_result import measure_step
from bodypose_loadtest.summary import summarise


@pytest.fixture
def records():
    """Records of rows (intended, start, end, image, error), in seconds."""

    def build(rows, errors=("", "ServerBusy")):
        return Records(np.array(rows, RECORD), tuple(errors))

    return build


@pytest.fixture
def summary(records):
    """A step's summary: `rate` requests/s for 10 s, each answered after `latency_s`."""

    def build(name="users 1", rate=10.0, latency_s=0.1, repeats=3, loop=Loop.OPEN, **changes):
        results = []
        for repeat in range(repeats):
            starts = np.arange(0, 10, 1 / rate)
            rows = [(at, at, at + latency_s * (1 + 0.01 * repeat), 0, 0) for at in starts]
            result = measure_step(Step(name, rate, 10), loop, (0, 10), records(rows), 0.1)
            results.append(replace(result, **changes))
        return summarise(results)

    return build


@pytest.fixture
def report(summary):
    """Three steps: good, the knee, and one that is not the server's."""
    model = {"model_sha256": "a" * 64, "config_sha256": "grpc:" + "b" * 64, "version": "2"}
    steps = [
        summary("users 1", invalid=()),
        summary("users 2", rate=20, invalid=()),
        summary("users 4", rate=1234, invalid=("generator: too slow",)),
    ]
    return {
        "schema": SCHEMA,
        "settings": {
            "scenario": "step",
            "protocol": "grpc",
            "loop": "closed",
            "repeats": 3,
            "duration_s": 10.0,
            "warm_up_s": 1.0,
            "images": "generated",
            "server": "embedded",
            "seed": 0,
        },
        "slo": {"p99": 50.0},
        "environment": {"cpus": 2, "cpu": "a CPU"},
        "model": model,
        "steps": steps,
        "knee": {"step": "users 2", "load": 2.0, "throughput": 20.0},
        "verdict": {"passed": False, "broken": ["users 2: p99 100.0 ms > 50 ms"], "invalid": []},
    }
