"""What each step does with the places of a request's images, and whose requests it counts."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pose_runtime.admission import Admission
from pose_runtime.errors import Cancelled, ServerFull
from pose_runtime.passage import EVERYONE, Between, Entrance, Exit, Visit
from pose_runtime.spec import PipelineSpec

SPEC = PipelineSpec()
ASKED = frozenset({"pixels", "geometry", "place"})
STUB = Path(__file__).parents[2] / "stubs" / "triton_python_backend_utils.py"


@pytest.fixture(scope="module")
def pb_utils() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_pb_utils", STUB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def admission(tmp_path) -> Admission:
    return Admission(tmp_path / "places")


@pytest.fixture
def entrance(admission) -> Entrance:
    return Entrance(admission, 4, ASKED)


def asking(pb_utils: Any, outputs: Any = ASKED, timeout_us: int = 0) -> Any:
    return pb_utils.InferenceRequest([], outputs, timeout_us)


def with_places(pb_utils: Any, places: Any) -> Any:
    return pb_utils.InferenceRequest([pb_utils.Tensor("place", places)])


def test_an_image_keeps_its_place_from_the_first_step_to_the_last(pb_utils, admission, entrance):
    visit = entrance.arrive(pb_utils, asking(pb_utils))
    entrance.admit(visit, 2)
    entrance.leave(visit)
    places = visit.places(2)
    assert places.shape == (2, 2)
    assert places.dtype == np.int64

    for step, left in ((Between(admission, SPEC.place), 2), (Exit(admission, SPEC.place), 0)):
        visit = step.arrive(pb_utils, with_places(pb_utils, places))
        assert visit.is_own
        step.leave(visit)
        assert admission.count() == left


@pytest.mark.parametrize("kind", ["entrance", "between", "exit"])
def test_a_request_that_fails_gives_its_places_back(pb_utils, admission, entrance, kind):
    visit = entrance.arrive(pb_utils, asking(pb_utils))
    entrance.admit(visit, 2)
    step: Any = entrance
    if kind != "entrance":
        entrance.leave(visit)
        step = {"between": Between, "exit": Exit}[kind](admission, SPEC.place)
        visit = step.arrive(pb_utils, with_places(pb_utils, visit.places(2)))

    step.fail(visit)

    assert admission.count() == 0


@pytest.mark.parametrize(
    "outputs", [(), ("pixels",), ("pixels", "geometry"), (*ASKED, "image_hw"), ("place",)]
)
def test_a_caller_of_preprocessing_itself_takes_no_place(pb_utils, admission, entrance, outputs):
    visit = entrance.arrive(pb_utils, asking(pb_utils, outputs))
    entrance.admit(visit, 8)
    entrance.leave(visit)

    assert not visit.is_own
    assert visit.places(8).tolist() == [[0, 0]] * 8
    assert admission.count() == 0


@pytest.mark.parametrize("places", [None, [[0, 0]], [[12345, 0]], [[-1, -1]]])
def test_a_caller_of_grouping_itself_frees_no_place(pb_utils, admission, entrance, places):
    taken = entrance.arrive(pb_utils, asking(pb_utils))
    entrance.admit(taken, 3)
    request = pb_utils.InferenceRequest([])
    if places is not None:
        request = with_places(pb_utils, np.array(places, np.int64))

    step = Exit(admission, SPEC.place)
    visit = step.arrive(pb_utils, request)
    step.leave(visit)

    assert not visit.is_own
    assert admission.count() == 3


def test_a_full_server_refuses_and_keeps_its_count(pb_utils, admission, entrance):
    for images in (3, 1):
        visit = entrance.arrive(pb_utils, asking(pb_utils))
        entrance.admit(visit, images)
    late = entrance.arrive(pb_utils, asking(pb_utils))

    with pytest.raises(ServerFull):
        entrance.admit(late, 1)
    entrance.fail(late)

    assert admission.count() == 4


def test_a_deadline_travels_with_the_image(pb_utils, admission, entrance):
    request = asking(pb_utils, timeout_us=50_000)
    visit = entrance.arrive(pb_utils, request)
    entrance.admit(visit, 1)
    visit.check_wanted(request)
    entrance.leave(visit)
    places = visit.places(1)
    step = Between(admission, SPEC.place)
    later = step.arrive(pb_utils, with_places(pb_utils, places))
    assert later.deadline_ns == visit.deadline_ns == places[0, 1]

    time.sleep(0.06)

    with pytest.raises(Cancelled):
        later.check_wanted(request)


def test_a_deadline_holds_also_when_the_place_is_lost(pb_utils, admission):
    request = with_places(pb_utils, np.array([[12345, 1]], np.int64))

    visit = Between(admission, SPEC.place).arrive(pb_utils, request)

    assert not visit.is_own
    with pytest.raises(Cancelled):
        visit.check_wanted(request)


@pytest.mark.parametrize("timeout_us", [-5, 2**63 - 1])
def test_odd_timeouts_are_no_deadline_that_has_passed(pb_utils, entrance, timeout_us):
    visit = entrance.arrive(pb_utils, asking(pb_utils, timeout_us=timeout_us))
    entrance.admit(visit, 1)

    visit.check_wanted(asking(pb_utils))
    assert visit.places(1).dtype == np.int64


@pytest.mark.parametrize(("timeout_us", "has_deadline"), [(-5, False), (0, False), (1, True)])
def test_every_timeout_above_zero_is_a_deadline(pb_utils, entrance, timeout_us, has_deadline):
    visit = entrance.arrive(pb_utils, asking(pb_utils, timeout_us=timeout_us))

    assert (visit.deadline_ns > 0) == has_deadline


def test_a_timeout_is_in_microseconds_and_eleven_days_at_most(pb_utils, entrance, monkeypatch):
    monkeypatch.setattr(time, "monotonic_ns", lambda: 5)
    for timeout_us, deadline_ns in ((7, 7005), (10**12, 10**15 + 5), (10**13, 10**15 + 5)):
        visit = entrance.arrive(pb_utils, asking(pb_utils, timeout_us=timeout_us))
        assert visit.deadline_ns == deadline_ns


@pytest.mark.parametrize(("deadline_ns", "is_late"), [(0, False), (99, True), (100, False)])
def test_a_request_is_wanted_until_its_deadline(pb_utils, monkeypatch, deadline_ns, is_late):
    monkeypatch.setattr(time, "monotonic_ns", lambda: 100)
    visit = Visit(is_own=True, deadline_ns=deadline_ns)
    if is_late:
        with pytest.raises(Cancelled):
            visit.check_wanted(asking(pb_utils))
    else:
        visit.check_wanted(asking(pb_utils))


def test_the_first_images_deadline_is_the_requests(pb_utils, admission):
    request = with_places(pb_utils, np.array([[0, 7], [12345, 8]], np.int64))
    visit = Between(admission, SPEC.place).arrive(pb_utils, request)
    assert (visit.names, visit.deadline_ns) == ([0, 12345], 7)
    assert visit.places(2).tolist() == [[0, 7], [12345, 7]]


def test_everyone_counts_and_nobody_has_a_place(pb_utils):
    visit = EVERYONE.arrive(pb_utils, asking(pb_utils))
    assert (visit.is_own, visit.names, visit.deadline_ns) == (True, [], 0)


def test_who_can_not_have_waited_is_not_asked_whether_somebody_waits_for_the_answer(
    pb_utils, admission, entrance
):
    """Triton takes 0.1 ms to say so."""
    first = entrance.arrive(pb_utils, asking(pb_utils))
    entrance.admit(first, 1)
    second = entrance.arrive(pb_utils, asking(pb_utils))
    entrance.admit(second, 1)
    for visit in (first, second):
        entrance.leave(visit)
    at_once = Between(admission, SPEC.place).arrive(
        pb_utils, with_places(pb_utils, first.places(1))
    )
    time.sleep(0.005)
    later = Between(admission, SPEC.place).arrive(pb_utils, with_places(pb_utils, second.places(1)))

    assert [visit.has_waited for visit in (first, second, later)] == [False, True, True]
    assert at_once.is_own
    given_up = pb_utils.InferenceRequest([], cancelled=True)
    first.check_wanted(given_up)
    with pytest.raises(Cancelled):
        later.check_wanted(given_up)


@pytest.mark.parametrize(("waited_ns", "has_waited"), [(2 * 10**6, False), (2 * 10**6 + 1, True)])
def test_two_milliseconds_are_no_wait(pb_utils, waited_ns, has_waited):
    class Waited:
        def claim(self, names):
            return waited_ns

    request = with_places(pb_utils, np.array([[12345, 0]], np.int64))

    visit = Between(Waited(), SPEC.place).arrive(pb_utils, request)

    assert (visit.is_own, visit.has_waited) == (True, has_waited)


def test_callers_of_a_single_step_are_asked(pb_utils, admission):
    request = with_places(pb_utils, np.array([[12345, 0]], np.int64))

    assert Between(admission, SPEC.place).arrive(pb_utils, request).has_waited
    assert Visit().has_waited
