"""Three servers as one: an even spread; updated, drained and killed without a loss."""

from __future__ import annotations

import importlib.util

import pytest

from tests.benchmarks.scale_out import BALANCERS, scale_out
from tests.gateways import envoy
from tests.serving import MISSING_WHEEL

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    if importlib.util.find_spec("pytriton") is None:
        pytest.skip(MISSING_WHEEL)
    envoy()
    run = scale_out(tmp_path_factory.mktemp("fleet"), BALANCERS, lambda line: None)
    return run["balancers"]


@pytest.mark.parametrize("balancer", BALANCERS)
def test_every_server_gets_its_share(results, balancer):
    spread = results[balancer]["spread"]
    assert min(spread["images"]) > 50
    assert spread["farthest"] <= 0.2, spread


@pytest.mark.parametrize("balancer", BALANCERS)
def test_an_update_a_drain_and_a_kill_lose_nothing(results, balancer):
    result = results[balancer]
    assert result["lost"] == {"update": 0, "drain": 0, "kill": 0}, result["examples"]
    assert result["answers_while_drained_and_killed"] > 100


@pytest.mark.parametrize("balancer", BALANCERS)
def test_every_answer_is_a_single_servers_of_one_version(results, balancer):
    result = results[balancer]
    assert result["unlike_a_single_server"] == 0, result["examples"]
    assert set(result["answers_by_version"]) == {"1", "2"}
    assert min(result["answers_by_version"].values()) > 100
