"""`tools soak` on the real server: a few seconds of what the lead runs for an hour."""

from __future__ import annotations

import json

import pytest

from bodypose_tools.soak.run import run_soak
from bodypose_tools.soak.settings import SoakPlan

pytestmark = pytest.mark.triton


def test_a_short_soak_with_a_killed_model_loses_nothing(repository, tmp_path):
    output = tmp_path / "soak.json"

    report = run_soak(
        repository,
        output,
        lambda rate: SoakPlan(14, rate, hostile_share=0.2, kill_every_s=8, sample_every_s=0.5),
        knee=20,
        share=0.7,
    )

    written = json.loads(output.read_text())
    assert {name: written[name] for name in report} == report
    assert report["problems"] == []
    assert report["passed"]
    assert report["answered"] + report["hostile_refused"] == report["sent"] > 100
    assert report["hostile_refused"] > 10
    assert len(report["kills_at_s"]) == len(report["recovery_s"]) == 1
    assert report["resources"]["zombies"]["last"] == 0
