from dataclasses import replace

import numpy as np
import pytest

from bodypose_loadtest.orders import Loop
from bodypose_loadtest.records import Records
from bodypose_loadtest.scenarios import Step
from bodypose_loadtest.step_result import longest_silence, measure_step, reasons_against


def measure(records, rows, loop=Loop.OPEN, load=1.0, seconds=10.0, cpu=0.1, **options):
    window = (1.0, 1.0 + seconds)
    return measure_step(Step("it", load, seconds), loop, window, records(rows), cpu, **options)


def test_latency_counts_from_the_intended_start(records):
    late_generator = [(2.0, 2.5, 2.6, 0, 0)]

    result = measure(records, late_generator)

    assert result.latency_ms["p50"] == pytest.approx(600)
    assert result.send_lag_ms["p99"] == pytest.approx(500)
    assert "generator: requests left 500.0 ms late" in result.invalid[0]


def test_the_warm_up_is_left_out(records):
    rows = [(0.5, 0.5, 0.9, 0, 0), (2.0, 2.0, 2.1, 0, 0), (11.5, 11.5, 11.6, 0, 0)]

    result = measure(records, rows)

    assert result.requests == 1
    assert result.latency_ms["max"] == pytest.approx(100)


def test_errors_have_kinds_and_no_latency(records):
    rows = [(2.0, 2.0, 2.1, 0, 0), (3.0, 3.0, 3.001, 0, 1), (4.0, 4.0, 4.001, 0, 1)]

    result = measure(records, rows)

    assert result.errors == {"ServerBusy": 2}
    assert result.error_share == pytest.approx(2 / 3)
    assert result.latency_ms["p50"] == pytest.approx(100)
    assert (result.achieved_rate, result.throughput) == pytest.approx((0.3, 0.1))


def test_goodput_counts_what_is_within_the_bound(records):
    rows = [(2.0, 2.0, 2.1, 0, 0), (3.0, 3.0, 3.4, 0, 0)]

    assert measure(records, rows, good_ms=200).goodput == pytest.approx(0.1)


def test_users_in_turns_are_called_serialised(records):
    in_turns = [(at, at, at + 0.02, 0, 0) for at in np.arange(1, 11, 0.02)]

    result = measure(records, in_turns, Loop.CLOSED, load=20)

    assert result.in_flight == pytest.approx(1, rel=0.01)
    assert "20 users kept 1.0 requests in flight: calls are serialised" in result.invalid[0]


def test_one_user_in_turns_is_fine(records):
    in_turns = [(at, at, at + 0.02, 0, 0) for at in np.arange(1, 11, 0.02)]

    assert measure(records, in_turns, Loop.CLOSED, load=1).invalid == ()


def test_a_server_that_falls_behind_is_invalid_at_that_rate(records):
    falling_behind = [(1 + i / 10, 1 + i / 10, 1 + i / 5, 0, 0) for i in range(100)]

    result = measure(records, falling_behind, load=10)

    assert "achieved 50% of the rate" in result.invalid[0]


def test_a_full_core_of_the_generator_is_invalid(records):
    result = measure(records, [(2.0, 2.0, 2.1, 0, 0)], cpu=0.97)

    assert "0.97 cores busy" in result.invalid[0]


def test_nothing_sent_is_invalid(records):
    result = measure(records, [])

    assert "no request was sent" in result.invalid[0]
    assert result.latency_ms["p99"] is None


def test_silence_is_not_counted_while_nobody_waits(records):
    idle = records([(0, 0, 1, 0, 0), (6, 6, 6.5, 0, 0)])
    stalled = records([(0, 0, 1, 0, 0), (1.5, 1.5, 6.5, 0, 0)])

    assert longest_silence(idle.rows)[0] == pytest.approx(0.5)
    assert longest_silence(stalled.rows) == pytest.approx((5.0, 1.5))


def test_a_stall_is_noted(records):
    regular = [(at, at, at + 0.1, 0, 0) for at in np.arange(1, 11, 0.25)]
    # What was sent between 5 and 7 is answered at 7.1.
    stalled = [(at, at, 7.1 if 5 <= at < 7 else end, 0, 0) for at, _, end, *_ in regular]

    assert measure(records, regular).notes == ()
    assert measure(records, stalled).notes == (
        "stall: no answer for 2.10 s, 4.0 s after the step's begin",
    )


def test_processes_are_merged_by_kind_of_error(records):
    one = records([(5, 5, 6, 0, 1)]).rows
    two = records([(4, 4, 5, 0, 1), (6, 6, 7, 0, 2)]).rows

    merged = Records.merged([(one, ["", "B"]), (two, ["", "A", "B"])], start_at=4)

    assert merged.errors == ("", "A", "B")
    assert merged.rows["intended"].tolist() == [0, 1, 2]
    assert [merged.errors[number] for number in merged.rows["error"]] == ["A", "B", "B"]


def test_an_error_is_neither_good_nor_fast(records):
    """Most of the step's requests are refused at once: a median would be theirs."""
    rows = [(2 + i / 10, 2 + i / 10, 2 + i / 10 + 0.001, 0, 1) for i in range(30)]
    rows += [(6.0, 6.0, 6.1, 0, 0), (7.0, 7.0, 7.3, 0, 0)]

    result = measure(records, rows, good_ms=200)

    assert [result.latency_ms[name] for name in ("p50", "max", "mean")] == pytest.approx(
        [200, 300, 200]
    )
    assert (result.throughput, result.goodput) == pytest.approx((0.2, 0.1))
    assert result.errors == {"ServerBusy": 30}


def test_every_percentile_has_its_name(records):
    rows = [(1 + i / 20, 1 + i / 20, 1 + i / 20 + (i + 1) / 1000, 0, 0) for i in range(101)]

    result = measure(records, rows)

    assert result.latency_ms == pytest.approx(
        {"p50": 51, "p90": 91, "p95": 96, "p99": 100, "max": 101, "mean": 51}
    )


def judged(records, loop=Loop.OPEN, load=2.0, **changes):
    """The reasons against a step of one answer after 100 ms, with some of its numbers changed."""
    result = measure(records, [(2.0, 2.0, 2.1, 0, 0)], loop, load)
    for name in ("latency_ms", "send_lag_ms"):
        changes[name] = {**getattr(result, name), **changes.get(name, {})}
    return reasons_against(replace(result, **changes))


@pytest.mark.parametrize(
    ("most", "more", "words"),
    [
        ({"generator_cpu": 0.9}, {"generator_cpu": 0.91}, "0.91 cores busy in one process, at mos"),
        (
            {"send_lag_ms": {"p50": 10.0}, "latency_ms": {"p50": 100.0}},
            {"send_lag_ms": {"p50": 10.1}, "latency_ms": {"p50": 100.0}},
            "requests left 10.1 ms late (p50)",
        ),
        (
            {"send_lag_ms": {"p50": 2.0}, "latency_ms": {"p50": None}},
            {"send_lag_ms": {"p50": 2.1}, "latency_ms": {"p50": None}},
            "requests left 2.1 ms late (p50)",
        ),
        (
            {"send_lag_ms": {"p99": 5.0}, "latency_ms": {"p99": 1.0}},
            {"send_lag_ms": {"p99": 5.1}, "latency_ms": {"p99": 1.0}},
            "requests left 5.1 ms late (p99)",
        ),
        (
            {"send_lag_ms": {"p50": None}},
            {"send_lag_ms": {"p50": None, "p99": 30.0}},
            "requests left 30.0 ms late (p99)",
        ),
        (
            {"achieved_rate": 95.0, "offered_rate": 100.0},
            {"achieved_rate": 94.0, "offered_rate": 100.0},
            "achieved 94% of the rate",
        ),
        (
            {"achieved_rate": 130.0, "offered_rate": 100.0},
            {"achieved_rate": 0.0, "offered_rate": 100.0},
            "achieved 0% of the rate",
        ),
    ],
)
def test_an_open_loop_is_the_servers_up_to_a_bound(records, most, more, words):
    assert judged(records, **most) == []
    (reason,) = judged(records, **more)
    assert words in reason


def test_users_wait_for_the_server_nine_tenths_of_their_time(records):
    slow = {"achieved_rate": 0.0, "send_lag_ms": {"p50": 99.0}}  # says nothing of a closed loop
    assert judged(records, Loop.CLOSED, 10.0, in_flight=9.0, **slow) == []
    (reason,) = judged(records, Loop.CLOSED, 10.0, in_flight=8.9)
    assert reason == "generator: 10 users kept 8.9 requests in flight"


def test_calls_are_serialised_where_several_users_wait_as_one(records):
    def said(load, in_flight):
        return judged(records, Loop.CLOSED, load, in_flight=in_flight)[0].endswith("serialised")

    assert [said(2.0, 1.09), said(2.0, 1.1), said(1.0, 0.5)] == [True, False, False]


def test_answers_belong_to_the_step_in_which_they_end(records):
    rows = [(at, at, end, 0, 0) for at, end in ((0.5, 0.75), (0.5, 1.0), (2.0, 3.0), (2.0, 11.0))]

    result = measure(records, rows)

    assert (result.achieved_rate, result.throughput) == (0.2, 0.2)
    assert (result.requests, result.offered_rate) == (2, 0.2)
    assert result.in_flight == pytest.approx((0 + 0 + 1 + 9) / 10)


def test_an_answer_at_the_bound_is_good(records):
    row = [(2.0, 2.0, 2.25, 0, 0)]
    assert [measure(records, row, good_ms=bound).goodput for bound in (250, 249)] == [0.1, 0]


def test_of_nothing_no_share_failed(records):
    assert measure(records, []).to_json()["error_share"] == 0.0
    failed = measure(records, [(2.0, 2.0, 2.5, 0, 1)])
    assert (failed.to_json()["error_share"], failed.to_json()["requests"]) == (1.0, 1)


def test_one_request_is_no_silence(records):
    assert longest_silence(records([(0, 0, 9, 0, 0)]).rows) == (0.0, 0.0)
    assert longest_silence(records([(0, 0, 1, 0, 0), (0, 0, 3, 0, 0)]).rows) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("latency_s", "silence_s", "noted"),
    [(0.1, 1.0, False), (0.1, 1.125, True), (0.5, 2.5, False), (0.5, 2.625, True)],
)
def test_a_stall_is_a_second_or_five_times_the_median(records, latency_s, silence_s, noted):
    rows = [(at, at, at + latency_s, 0, 0) for at in (1.0, 1.25, 1.5, 1.75, 2.0)]

    result = measure(records, [*rows, (4.0, 4.0, 4.0 + silence_s, 0, 0)])

    assert result.longest_silence_s == silence_s
    assert bool(result.notes) is noted
