import json
from pathlib import Path

import pytest

from bodypose_client.wire.access import Access, Tls
from bodypose_loadtest.comparison import check_same_settings, compare, read_report
from bodypose_loadtest.errors import PlanError, ReportError
from bodypose_loadtest.knee import knee_is_settled, knee_of
from bodypose_loadtest.orders import Loop
from bodypose_loadtest.plan import LoadTestPlan
from bodypose_loadtest.scenarios import Load, Scenario
from bodypose_loadtest.slo import Slo
from pose_runtime.errors import PoseError


def test_bounds_are_read_in_our_units():
    slo = Slo.parse("p99=50ms, p50<0.02s,errors<0.1%,rate>=20/s")

    assert slo.bounds == pytest.approx({"p99": 50, "p50": 20, "errors": 0.001, "rate": 20})
    assert slo.latency_ms == 20


@pytest.mark.parametrize("text", ["p98=5ms", "p99", "p99>5ms", "rate<5", "errors=5ms", "p99=1.2.3"])
def test_what_is_no_bound_is_refused(text):
    with pytest.raises(PlanError, match="expected bounds such as"):
        Slo.parse(text)


def test_broken_bounds_are_named(summary):
    step = summary(rate=10, latency_s=0.1)

    assert Slo.parse("p99=200ms,errors<1%,rate>5").broken(step) == []
    assert Slo.parse("p99=50ms,rate>50").broken(step) == [
        "p99 101.0 ms > 50 ms",
        "rate 9.9/s < 50/s",
    ]


def test_the_knee_is_where_throughput_stops_growing(summary):
    steps = [summary(rate=rate, loop=Loop.CLOSED, invalid=()) for rate in (10, 18, 18.2, 17)]

    assert knee_of(steps) == 1
    assert knee_of(steps[:2]) is None
    assert [knee_is_settled(steps[:count]) for count in (2, 3, 4)] == [False, False, True]


def test_a_step_that_gains_nothing_may_be_followed_by_one_that_does(summary):
    steps = [summary(rate=rate, loop=Loop.CLOSED, invalid=()) for rate in (10, 10, 30, 30, 31)]

    assert knee_of(steps[:2]) == 0
    assert knee_of(steps) == 2


def test_the_knee_of_an_open_loop_is_where_waiting_begins(summary):
    steps = [
        summary(rate=rate, latency_s=latency_s, invalid=())
        for rate, latency_s in ((10, 0.1), (20, 0.11), (30, 0.3))
    ]

    assert knee_of(steps) == 1


def test_an_invalid_step_is_no_knee_but_ends_the_search(summary):
    good, bad = summary(rate=10, invalid=()), summary(rate=20, invalid=("generator",))

    assert knee_of([good, bad]) == 0
    assert knee_of([bad, good]) is None


def test_one_disturbed_repeat_does_not_spoil_a_step(summary):
    assert summary(repeats=1, invalid=("late",))["invalid"] == ["late"]
    assert summary()["valid_repeats"] == "3 of 3"


def test_ratios_within_the_noise_pass(summary):
    old = {"steps": [summary(rate=10, latency_s=0.1)]}
    new = {"steps": [summary(rate=9.9, latency_s=0.102)]}

    assert not any(ratio.regressed for ratio in compare(new, old))


def test_a_regression_beyond_the_noise_fails(summary):
    old = {"steps": [summary(rate=10, latency_s=0.1)]}
    new = {"steps": [summary(rate=10, latency_s=0.15)]}

    regressed = {ratio.value: ratio.ratio for ratio in compare(new, old) if ratio.regressed}

    assert regressed == pytest.approx({"p50": 1.5, "p99": 1.5})


def test_repeats_that_scatter_make_noise(summary):
    old, new = summary(latency_s=0.1), summary(latency_s=0.15)
    old["spread"]["p99"] = [80.0, 180.0]

    ratios = {ratio.value: ratio for ratio in compare({"steps": [new]}, {"steps": [old]})}

    assert ratios["p50"].regressed
    assert not ratios["p99"].regressed


def test_reports_without_a_common_valid_step_do_not_compare(summary):
    with pytest.raises(ReportError, match="expected steps that are valid in both"):
        compare({"steps": [summary("a")]}, {"steps": [summary("b")]})


def test_reports_of_other_settings_do_not_compare(report):
    settings = {**report["settings"], "server": "embedded"}

    check_same_settings(settings, settings)
    with pytest.raises(ReportError, match="expected protocol grpc, as in the older report, got h"):
        check_same_settings({**settings, "protocol": "http"}, settings)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"duration_s": 0}, "duration: expected more than 0 s"),
        (
            {"url": "http://h", "access": Access(Tls(Path("ca.pem")))},
            "expected https:// with TLS files, got http://",
        ),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anything_starts(changes, problem):
    load = Load.parse(Scenario.STEADY, None, None)
    with pytest.raises(PoseError, match=problem):
        LoadTestPlan(Scenario.STEADY, load, **changes)


def test_a_report_is_read_from_its_folder(tmp_path, report):
    (tmp_path / "report.json").write_text(json.dumps(report))

    assert len(read_report(tmp_path)["steps"]) == 3
    for part, words in (("steps", "expected `settings` and `steps`"), ("spread", "steps.0.: ex")):
        damaged = json.loads(json.dumps(report))
        del (damaged if part in damaged else damaged["steps"][0])[part]
        (tmp_path / "damaged.json").write_text(json.dumps(damaged))
        with pytest.raises(ReportError, match=words):
            read_report(tmp_path / "damaged.json")
    with pytest.raises(ReportError, match="expected a load test's report"):
        read_report(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ReportError, match="something else"):
        read_report(tmp_path / "other.json")


@pytest.mark.parametrize("name", ["p50", "p90", "p95", "p99", "max"])
def test_a_latency_of_which_nothing_is_known_is_broken(summary, name):
    step = summary(rate=10)
    step["latency_ms"] = dict.fromkeys(step["latency_ms"])

    assert Slo.parse(f"{name}=200ms").broken(step) == [f"{name}: nothing was answered"]


def test_each_percentile_has_its_own_bound(summary):
    step = summary(rate=10)
    step["latency_ms"] |= {"p50": 1.0, "p90": 2.0, "p95": 3.0, "p99": 4.0, "max": 5.0}

    assert Slo.parse("p50=1ms,p90=2ms,p95=3ms,p99=4ms,max=5ms").broken(step) == []
    assert len(Slo.parse("p50=0.9ms,p90=1.9ms,p95=2.9ms,p99=3.9ms,max=4.9ms").broken(step)) == 5


def test_shares_of_errors_and_rates_hold_at_their_bound(summary):
    step = summary(rate=10) | {"error_share": 0.01, "throughput": 20.0}

    assert Slo.parse("errors<=1%,rate>=20/s").broken(step) == []
    assert Slo.parse("errors<0.9%,rate>20.1/s").broken(step) == [
        "errors 1.00% > 0.90%",
        "rate 20.0/s < 20.1/s",
    ]


def of_load(throughput, p95=100.0, loop=Loop.CLOSED, invalid=()):
    """What the knee's rules read of a step."""
    named = {"throughput": throughput, "latency_ms": {"p95": p95}}
    return {**named, "loop": loop, "invalid": list(invalid)}


@pytest.mark.parametrize(("gain", "place"), [(1.049, 0), (1.051, None)])
def test_a_gain_of_five_percent_is_one(gain, place):
    assert knee_of([of_load(100), of_load(100 * gain)]) == place


def test_waiting_longer_is_no_knee_of_a_closed_loop():
    assert knee_of([of_load(10, 100.0), of_load(20, 900.0)]) is None


@pytest.mark.parametrize(("p95", "place"), [(199, None), (200, 0), (None, 0)])
def test_an_open_loop_is_past_its_knee_when_p95_has_doubled(p95, place):
    steps = [of_load(10, 100.0, Loop.OPEN), of_load(20, p95, Loop.OPEN)]
    assert knee_of(steps) == place


def test_an_open_loop_looks_at_the_next_step_alone():
    rates = (10, 10.1, 30)
    assert knee_of([of_load(rate, loop=Loop.OPEN) for rate in rates]) == 0
    assert knee_of([of_load(rate) for rate in rates]) is None


def test_one_step_settles_an_open_loop_and_two_a_closed_one():
    def settled(loop, steps):
        return knee_is_settled([of_load(10, loop=loop) for _ in range(steps)])

    assert [settled(Loop.OPEN, steps) for steps in (1, 2)] == [False, True]
    assert [settled(Loop.CLOSED, steps) for steps in (2, 3)] == [False, True]


def compared(throughput=100.0, p50=100.0, p99=100.0, repeats=2, spread=None, name="s", invalid=()):
    """What a comparison reads of a step."""
    values = {"throughput": throughput, "p50": p50, "p99": p99}
    return {
        "name": name,
        "invalid": list(invalid),
        "repeats": [{}] * repeats,
        "throughput": throughput,
        "latency_ms": {"p50": p50, "p99": p99},
        "spread": {each: [value, value] for each, value in values.items()} | (spread or {}),
    }


def regressions(new, old):
    return [each.value for each in compare({"steps": [new]}, {"steps": [old]}) if each.regressed]


@pytest.mark.parametrize(
    ("new", "worse"),
    [
        ({"throughput": 97.1}, []),
        ({"throughput": 96.9}, ["throughput"]),
        ({"throughput": 300.0, "p50": 1.0}, []),
        ({"p50": 102.9}, []),
        ({"p50": 103.1}, ["p50"]),
        ({"p99": 103.1}, ["p99"]),
    ],
)
def test_quiet_repeats_explain_three_percent(new, worse):
    assert regressions(compared(**new), compared()) == worse


@pytest.mark.parametrize(("p50", "worse"), [(129.0, []), (131.0, ["p50"])])
def test_single_repeats_explain_15_percent_each(p50, worse):
    assert regressions(compared(p50=p50, repeats=1), compared(repeats=1)) == worse
    unknown = {"p50": []}
    assert regressions(compared(p50=p50, spread=unknown), compared(spread=unknown)) == worse


@pytest.mark.parametrize("bounds", [[90.0, 102.0], [98.0, 110.0]])
@pytest.mark.parametrize(("p50", "worse"), [(109.0, []), (112.0, ["p50"])])
def test_noise_is_the_repeat_farthest_from_the_median(bounds, p50, worse):
    old = compared(spread={"p50": bounds})
    assert regressions(compared(p50=p50), old) == worse
    ratio = next(each for each in compare({"steps": [compared()]}, {"steps": [old]}) if each.noise)
    assert ratio.ratio == 1.0


def test_a_ratio_says_what_it_is_of():
    new, old = compared(throughput=50.0, p50=None, p99=0.0), compared(p50=9.0)

    (ratio,) = compare({"steps": [new]}, {"steps": [old]})

    assert str(ratio) == "s: throughput 0.500 of the old one (noise 3.0%) WORSE"
    (better,) = compare({"steps": [old | {"latency_ms": new["latency_ms"]}]}, {"steps": [old]})
    assert str(better) == "s: throughput 1.000 of the old one (noise 3.0%) ok"


def test_only_steps_that_are_valid_in_both_are_compared():
    new = [compared(name=name, invalid=["late"] * (name == "b")) for name in "abc"]
    old = [compared(name=name, invalid=["late"] * (name == "c")) for name in "abcd"]

    assert {ratio.step for ratio in compare({"steps": new}, {"steps": old})} == {"a"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 5}, "an object with a name"),
        ({"invalid": {}}, "lists `invalid` and `repeats`"),
        ({"repeats": None}, "lists `invalid` and `repeats`"),
        ({"latency_ms": []}, "objects `latency_ms` and `spread`"),
        ({"spread": []}, "objects `latency_ms` and `spread`"),
        ({"throughput": -1}, "throughput as a number from 0 on, or null"),
        ({"throughput": True}, "throughput as a number from 0 on, or null"),
        ({"throughput": 1e12}, "throughput as a number from 0 on, or null"),
        ({"latency_ms": {"p50": 1.0}}, "p99 as a number from 0 on, or null"),
        ({"spread": {"throughput": [1.0]}}, "spread.throughput as two numbers from 0 on"),
        ({"spread": {"throughput": [1, 2, 3]}}, "spread.throughput as two numbers from 0 on"),
        ({"spread": {"throughput": [1, "2"]}}, "spread.throughput as two numbers from 0 on"),
        ({"spread": {"throughput": 5}}, "spread.throughput as two numbers from 0 on"),
    ],
)
def test_the_first_wrong_part_of_a_report_is_named(tmp_path, report, change, words):
    report["steps"] = [compared() | {"throughput": 0, "spread": {"p50": [], "p99": []}}]
    report["steps"][0]["spread"]["throughput"] = [0, 1e11]
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_report(tmp_path)["steps"] == report["steps"]

    report["steps"].append(report["steps"][0] | change)
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(ReportError) as caught:
        read_report(tmp_path)
    assert str(caught.value).endswith(f"report.json: steps[1]: expected {words}")


def test_a_report_of_more_than_64_mib_is_not_read(tmp_path, report):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    with path.open("r+b") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(ReportError, match="of at most 67108864 bytes, got 67108865"):
        read_report(path)


def test_shares_and_seconds_are_read_with_and_without_their_unit():
    slo = Slo.parse("errors=0.5, rate>5,,max<=2s, ")
    assert slo.bounds == {"errors": 0.5, "rate": 5, "max": 2000}
    assert Slo.parse("errors<5%").latency_ms == float("inf")
    for text in ("p99=50", "rate>=5%", "errors>1%", "rate<=5/s", "max=1%"):
        with pytest.raises(PlanError, match="--slo: expected bounds such as"):
            Slo.parse(text)


def test_a_gain_of_exactly_five_percent_and_an_unknown_p95_are_no_knee():
    assert knee_of([of_load(100), of_load(105)]) is None
    assert knee_of([of_load(10, None, Loop.OPEN), of_load(20, 900.0, Loop.OPEN)]) is None
    assert knee_of([of_load(10), of_load(20), of_load(21, invalid=["late"])]) == 1
    assert knee_of([]) is None
    assert not knee_is_settled([of_load(10)])
