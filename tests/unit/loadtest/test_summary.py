"""One step from its repeats."""

from dataclasses import replace

import pytest

from bodypose_loadtest.orders import Loop
from bodypose_loadtest.scenarios import Step
from bodypose_loadtest.step_result import measure_step
from bodypose_loadtest.summary import summarise, value_of


@pytest.fixture
def repeats(records):
    """One step of one answer, again and again; each repeat with its changes."""

    def build(*changes):
        rows = records([(0.5, 0.5, 0.75, 0, 0)])
        result = measure_step(Step("it", 1, 10), Loop.OPEN, (0, 10), rows, 0.1)
        return [replace(result, **{"invalid": (), **each}) for each in changes]

    return build


def test_numbers_are_medians_of_the_valid_repeats(repeats):
    found = repeats(
        {"throughput": 1.0, "errors": {"A": 1}, "notes": ("n1",)},
        {"throughput": 99.0, "invalid": ("late",), "errors": {"A": 7}, "notes": ("n2",)},
        {"throughput": 5.0, "errors": {"A": 2, "B": 3}},
    )

    summary = summarise(found)

    assert (summary["throughput"], summary["spread"]["throughput"]) == (3.0, [1.0, 5.0])
    assert (summary["latency_ms"]["p50"], summary["spread"]["p50"]) == (250.0, [250.0, 250.0])
    assert (summary["name"], summary["judged"]) == ("it", True)
    assert (summary["valid_repeats"], summary["invalid"]) == ("2 of 3", [])
    assert (summary["errors"], summary["notes"]) == ({"A": 3, "B": 3}, ["n1", "n2"])
    assert [repeat["throughput"] for repeat in summary["repeats"]] == [1.0, 99.0, 5.0]


def test_half_of_the_repeats_is_no_majority(repeats):
    found = repeats({}, {}, {"invalid": ("late", "busy")}, {"invalid": ("late",)})

    assert summarise(found)["invalid"] == ["busy", "late"]
    assert summarise([*found, found[0]])["invalid"] == []


def test_without_a_valid_repeat_all_count(repeats):
    summary = summarise(repeats(*({"invalid": ("late",), "throughput": at} for at in (1.0, 3.0))))

    assert (summary["throughput"], summary["valid_repeats"]) == (2.0, "0 of 2")


def test_what_nothing_is_known_of_has_no_spread(repeats):
    nothing = {"latency_ms": dict.fromkeys(("p50", "p99"))}

    summary = summarise(repeats(nothing, nothing))

    assert summary["spread"]["p50"] == []
    assert (value_of("p50", summary), value_of("throughput", summary)) == (None, 0.1)
    known = summarise(repeats(nothing, {}))
    assert (known["spread"]["p99"], known["latency_ms"]["p50"]) == ([250.0, 250.0], 250.0)
