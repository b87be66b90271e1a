"""The soak sees what is lost, doubled, mixed up or growing, and says that all is well otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bodypose_client.errors import RequestRejected, ServerUnavailable
from bodypose_tools.soak.load import (
    Kind,
    Question,
    Tally,
    _outcome,
    _report,
    _send,
    ask_once,
    measured_knee,
)
from bodypose_tools.soak.settings import SoakPlan
from bodypose_tools.soak.watch import Sample, by_minute, growth_in, summary_of
from pose_runtime.errors import PoseError
from pose_runtime.poses import Poses

PLAN = SoakPlan(seconds=0.2, rate=400, hostile_share=0.25)
SAMPLE = Sample(0.0, 800.0, 79, 4, 0, 3, 24.0, 180.0, 13)


def at(x: float) -> Poses:
    return Poses(np.full((1, 18, 3), x, np.float32), np.ones(1, np.float32))


class Server:
    """Answers an image with the number that it is; refuses text."""

    def __init__(self, off_by: float = 0.0, error: Exception | None = None) -> None:
        self.off_by, self.error = off_by, error

    def infer(self, image: bytes) -> Poses:
        if self.error:
            raise self.error
        if not image.isdigit():
            raise RequestRejected("no image")
        return at(int(image) + self.off_by)


QUESTIONS = ask_once(Server(), {"one": b"1", "two": b"2"}, {"text": b"hello"})


def report_of(server: Server, samples=(SAMPLE,) * 8, seconds: float = 60.0):
    tally = Tally(int(PLAN.rate * PLAN.seconds) + 1)
    sent = _send(server, QUESTIONS, PLAN, tally, lambda seconds: None)
    return _report(PLAN, sent, tally, samples, [], seconds)


def test_a_sound_server_passes():
    report = report_of(Server())

    assert (report["passed"], report["problems"]) == (True, [])
    assert report["answered"] + report["hostile_refused"] == report["sent"] > 0
    assert report["hostile_refused"] > 0


@pytest.mark.parametrize(
    ("server", "what"),
    [
        (Server(off_by=1.0), "wrong"),
        (Server(error=RequestRejected("bad")), "wrong"),
        (Server(error=ServerUnavailable("a", "gone")), "lost"),
    ],
)
def test_wrong_and_lost_answers_fail_it(server, what):
    report = report_of(server)

    assert not report["passed"]
    assert report[what] > 0


def test_a_hostile_image_that_is_answered_is_wrong():
    kind, _, problem = _outcome(Server(), Question("spy", b"7", None))

    assert (kind, problem) == (Kind.WRONG, "spy: a hostile image was answered")
    with pytest.raises(PoseError, match="spy: expected a hostile image to be refused"):
        ask_once(Server(), {}, {"spy": b"7"})


def test_the_knee_is_measured_with_good_images_alone(monkeypatch):
    monkeypatch.setattr("bodypose_tools.soak.load._KNEE_S", 0.2)

    assert measured_knee(Server(), QUESTIONS) > 0


def test_missing_and_doubled_answers_are_counted():
    tally = Tally(4)
    for number in (0, 1, 1):
        tally.enter(number, Kind.ANSWERED, 1.0, "")

    report = _report(PLAN, 3, tally, (SAMPLE,) * 8, [], 60)

    assert (report["lost"], report["doubled"], report["passed"]) == (1, 1, False)
    assert "expected 3 answers, got 1 lost, 0 wrong, 1 doubled" in report["problems"]


@pytest.mark.parametrize(
    "name", ["server_mib", "server_files", "zombies", "shm_segments", "client_mib"]
)
def test_growth_is_named_in_a_run_that_is_long_enough(name):
    more = replace(SAMPLE, **{name: getattr(SAMPLE, name) * 1.5 + 1})
    samples = [SAMPLE] * 20 + [more] * 20

    assert growth_in(summary_of([SAMPLE] * 40)) == []
    (problem,) = growth_in(summary_of(samples))
    assert problem.startswith(f"{name}: expected at most")
    assert not report_of(Server(), samples, seconds=3600)["passed"]
    short = report_of(Server(), samples, seconds=60)
    assert (short["passed"], short["growth_judged"]) == (True, False)


def test_memory_of_requests_in_flight_is_no_growth_and_is_shown_by_the_minute():
    breath = replace(SAMPLE, at_s=60.0, server_mib=860.0, client_mib=240.0)
    samples = [SAMPLE] * 20 + [breath] * 20

    assert growth_in(summary_of(samples)) == []
    assert by_minute(samples) == {"server_mib": [800.0, 860.0], "client_mib": [180.0, 240.0]}


def test_a_server_that_was_never_seen_fails_it():
    assert (
        "expected a sample of the running server, got none" in report_of(Server(), ())["problems"]
    )
