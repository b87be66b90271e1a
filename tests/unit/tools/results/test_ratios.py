"""A verdict holds only where the interval lies on one side of the limit."""

from __future__ import annotations

import numpy as np
import pytest

from bodypose_tools.results.ratios import (
    Outcome,
    Ratio,
    in_turns,
    median_of,
    paired_ratio,
    verdict,
)


def test_the_ratio_is_the_median_of_pairs_and_not_a_ratio_of_medians():
    ratio = paired_ratio([2, 20, 3, 9, 10, 1], [1, 10, 1, 3, 10, 1])
    assert ratio.median == 2.0  # of 2, 2, 3, 3, 1, 1; the medians' ratio is 3
    assert (ratio.low, ratio.high, ratio.pairs) == (1.0, 3.0, 6)


@pytest.mark.parametrize(
    ("count", "rank"),
    [(6, 0), (8, 0), (9, 1), (10, 1), (20, 5), (40, 13), (100, 39)],  # of a table of the sign test
)
def test_the_interval_is_that_of_the_sign_test(count, rank):
    found = median_of(np.random.default_rng(0).permutation(count))
    assert (found.low, found.high) == (rank, count - 1 - rank)


def test_fewer_than_six_pairs_decide_nothing():
    ratio = paired_ratio([1.0] * 5, [1.0] * 5)
    assert (ratio.low, ratio.high) == (None, None)
    assert ratio.at_least(0.1) is ratio.at_most(9.0) is Outcome.NOT_DECIDED
    assert str(ratio) == "1.00 (5 pairs only)"


@pytest.mark.parametrize(
    ("low", "high", "at_least", "at_most"),
    [
        (1.0, 1.2, "met", "not decided"),
        (0.8, 1.0, "not decided", "met"),
        (0.8, 0.99, "missed", "met"),
        (1.01, 1.2, "met", "missed"),
        (0.9, 1.1, "not decided", "not decided"),
    ],
)
def test_a_verdict_needs_the_interval_on_one_side(low, high, at_least, at_most):
    ratio = Ratio((low + high) / 2, low, high, 9)
    assert (ratio.at_least(1.0), ratio.at_most(1.0)) == (at_least, at_most)


def test_the_interval_holds_the_median_as_often_as_it_promises():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(500):
        found = median_of(random.exponential(size=15))
        held += found.low <= np.log(2) <= found.high
    assert 0.94 <= held / 500 <= 0.99


def test_sides_that_did_not_take_turns_are_refused():
    with pytest.raises(ValueError, match=r"\(5,\) and \(2,\)"):
        paired_ratio([1] * 5, [1] * 2)
    with pytest.raises(ValueError, match=r"\(\) and \(\)"):
        paired_ratio(1.0, 2.0)


def test_no_side_is_always_first():
    assert in_turns(["a", "b", "c"], 0) == ["a", "b", "c"]
    assert in_turns(["a", "b", "c"], 1) == ["c", "b", "a"]


def test_a_record_keeps_the_ratio():
    ratio = Ratio(1.5, 1.25, 1.75, 9)
    assert Ratio.from_json(ratio.to_json()) == ratio


def test_a_record_has_four_digits():
    assert Ratio(1.23456, 0.000123456, 12345.6, 9).to_json() == {
        "median": 1.235,
        "low": 0.0001235,
        "high": 12350.0,
        "pairs": 9,
    }
    assert Ratio(1.0, None, None, 1).to_json() == {
        "median": 1.0,
        "low": None,
        "high": None,
        "pairs": 1,
    }


def test_a_ratio_is_told_with_its_interval():
    assert str(Ratio(1.234, 1.1, 1.499, 9)) == "1.23 (1.10 to 1.50)"
    assert str(Ratio(1.234, None, None, 1)) == "1.23 (measured once)"


def test_an_interval_needs_both_ends():
    for low, high in ((1.0, None), (None, 1.0)):
        ratio = Ratio(1.0, low, high, 9)
        assert ratio.at_least(0.5) is ratio.at_most(2.0) is Outcome.NOT_DECIDED
        assert str(ratio) == "1.00 (9 pairs only)"


@pytest.mark.parametrize("sides", [([], []), ([[1.0]], [[1.0]]), ([1.0, 2.0], [1.0])])
def test_what_is_no_row_of_pairs_is_refused(sides):
    with pytest.raises(ValueError, match="expected as many numbers of both sides, got"):
        paired_ratio(*sides)
    assert paired_ratio([3.0], [2.0]) == Ratio(1.5, None, None, 1)


def test_a_verdict_has_the_figure_and_its_rule():
    ratio = Ratio(1.5, 1.25, 1.75, 9)
    told = verdict("speed", ">= 1.2", ratio, ratio.at_least(1.2))
    assert told == {"name": "speed", "rule": ">= 1.2", **ratio.to_json(), "outcome": "met"}
