import json
from pathlib import Path

import numpy as np
import pytest

from bodypose_client.wire.access import Access, Tls
from bodypose_loadtest.arrivals import Phase, poisson_arrivals, users_at
from bodypose_loadtest.errors import PlanError
from bodypose_loadtest.orders import Loop, Setting, Work
from bodypose_loadtest.scenarios import Load, Scenario, seconds_in, stretches


def test_a_stretch_begins_with_a_warm_up_of_its_first_load():
    [stretch] = stretches(Scenario.SPIKE, Load(Loop.OPEN, (10.0,)), 90, 5)

    assert [(phase.load, phase.seconds) for phase in stretch.phases] == [
        (10, 5),
        (10, 30),
        (40, 30),
        (10, 30),
    ]
    assert [(begin, end) for _, begin, end in stretch.windows()] == [(5, 35), (35, 65), (65, 95)]
    assert [step.judged for step in stretch.steps] == [True, False, True]


def test_step_has_a_stretch_for_each_level_in_rising_order():
    load = Load.parse(Scenario.STEP, "4,1,2", None)

    names = [each.steps[0].name for each in stretches(Scenario.STEP, load, 10, 1)]

    assert names == ["users 1", "users 2", "users 4"]


@pytest.mark.parametrize(
    ("scenario", "users", "rate", "problem"),
    [
        (Scenario.OPEN, None, None, "expected --rate for open"),
        (Scenario.STEADY, "4", "4", "got both"),
        (Scenario.STEADY, "4,8", None, "expected one level"),
        (Scenario.STEADY, "1.5", None, "expected integers"),
        (Scenario.STEADY, "-1", None, "above 0"),
        (Scenario.STEADY, "many", None, "above 0"),
        (Scenario.STEADY, None, "nan", "above 0"),
    ],
)
def test_a_load_that_is_none_is_refused(scenario, users, rate, problem):
    with pytest.raises(PlanError, match=problem):
        Load.parse(scenario, users, rate)


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("30s", 30), ("5m", 300), ("1h", 3600)])
def test_durations(text, seconds):
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(PlanError, match="expected 30s"):
        seconds_in(text)


def test_arrivals_are_the_same_for_the_same_seed_and_follow_the_phases():
    phases = (Phase(100, 50), Phase(10, 50))

    arrivals = poisson_arrivals(phases, np.random.default_rng(3))

    assert arrivals.tolist() == poisson_arrivals(phases, np.random.default_rng(3)).tolist()
    assert np.all(np.diff(arrivals) >= 0)
    assert np.sum(arrivals < 50) == pytest.approx(5000, rel=0.1)
    assert np.sum(arrivals >= 50) == pytest.approx(500, rel=0.2)


def test_users_come_and_go_with_the_phases():
    phases = (Phase(2, 10), Phase(8, 10))

    assert [users_at(phases, second) for second in (0, 9.9, 10, 19.9, 20)] == [2, 2, 8, 8, 0]


def test_orders_survive_the_pipe():
    work = Work(Loop.OPEN, (Phase(1.5, 2.0),), 7.25, 3, "out.npy")
    access = Access(Tls(Path("ca.pem")), {"authorization": "Bearer secret"})
    setting = Setting("grpcs://h:1/m", access, ("a.jpg",), (1.0,), 3.0, 4)

    assert Work.from_json(work.to_json()) == work
    assert Setting.from_json(json.loads(json.dumps(setting.to_json()))) == setting
