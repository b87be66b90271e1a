"""Clients in a closed loop: what they count, and where more of them bring nothing."""

from __future__ import annotations

import itertools
import threading

import pytest

from bodypose_tools.server.load import Load, closed_loop, knee_of


def test_clients_ask_again_until_the_time_is_over_and_refusals_count():
    lock, turn = threading.Lock(), itertools.count()

    def make_ask():
        def ask():
            with lock:
                return next(turn) % 2 == 0

        return ask

    load = closed_loop(make_ask, clients=2, seconds=1.0)
    summary = load.summary()
    assert load.outcomes["answered"] == len(load.latencies_s) > 0
    assert load.seconds >= 0.7  # the last clients ask until the time is over
    assert summary["refused"] > 0
    assert summary["images_per_s"] == pytest.approx(load.per_second, abs=0.01)


def test_a_load_without_an_answer_has_a_summary():
    summary = Load(clients=2).summary()
    assert (summary["images_per_s"], summary["refused"]) == (0.0, 0)


def test_what_a_client_raises_reaches_the_caller():
    def ask():
        raise OSError("HTTP 400 from there")

    with pytest.raises(OSError, match="HTTP 400"):
        closed_loop(lambda: ask, clients=2, seconds=0.1)


def test_the_knee_has_the_fewest_clients_with_nearly_the_best_rate():
    curve = [{"clients": n, "images_per_s": r} for n, r in ((1, 50), (2, 96), (4, 100), (8, 98))]
    assert knee_of(curve)["clients"] == 2
