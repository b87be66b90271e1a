"""The formula of docs/fleet.md."""

from __future__ import annotations

import json

import pytest

from bodypose_tools.deploying.sizing import cores_beside_a_card, servers_for, sizing_table
from bodypose_tools.files.shipped import CHECKOUT


@pytest.mark.parametrize(
    ("load", "knee", "share", "servers"),
    [(100, 20, 0.5, 11), (101, 20, 0.5, 12), (1, 20, 0.8, 2), (16, 20, 0.8, 2), (16.1, 20, 0.8, 3)],
)
def test_there_are_servers_for_the_load_and_one_more(load, knee, share, servers):
    assert servers_for(load, knee, share) == servers
    assert (servers - 1) * share * knee >= load


def test_a_card_has_cores_for_what_its_network_answers():
    assert cores_beside_a_card(1000, {"preprocess": 2, "grouping": 0.5}) == 3
    assert cores_beside_a_card(10, {"preprocess": 2, "grouping": 0.5}) == 1


def test_the_example_has_the_records_numbers():
    loadtest, performance = (
        json.loads((CHECKOUT / f"docs/results/{name}.json").read_text())
        for name in ("loadtest", "performance")
    )
    table = sizing_table(loadtest, performance, 100, 1000)
    for name in ("at_50_percent", "at_80_percent"):
        assert f"{loadtest[name]['latency_ms']['p99']:.0f} ms" in table
    assert f"{loadtest['knee']['throughput']:.1f} images/s" in table
