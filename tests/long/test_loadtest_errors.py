"""Errors that a server whose every answer is known makes, as the load generator reports them."""

from __future__ import annotations

import pytest

from bodypose_loadtest.known_server import Behaviour
from bodypose_loadtest.orders import Loop
from tests.timed.test_loadtest_honesty import both_protocols, measured


@both_protocols
@pytest.mark.parametrize(("loop", "level"), [(Loop.CLOSED, 8), (Loop.OPEN, 100)])
def test_one_error_in_a_hundred_is_reported_as_such(protocol, loop, level):
    behaviour = Behaviour(0.02, 4, error_every=100)

    outcome = measured(behaviour, protocol, loop, level, duration_s=4, slo="errors<0.5%")

    step = outcome.report["steps"][0]
    assert step["error_share"] == pytest.approx(0.01, abs=1.1 / step["requests"])
    assert list(step["errors"]) == ["RequestRejected"]
    assert outcome.report["verdict"]["passed"] is False
    assert "errors" in outcome.report["verdict"]["broken"][0]
