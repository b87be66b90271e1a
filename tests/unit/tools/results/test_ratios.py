"""A verdict holds only where the interval lies on one side of the limit."""

from __future__ import annotations

import numpy as np
import pytest

from bodypose_tools.results.ratios import Outcome, Ratio, in_turns, median_of, paired_ratio


def test_the_ratio_is_the_median_of_pairs_and_not_a_ratio_of_medians():
    ratio = paired_ratio([2, 20, 3, 9, 10, 1], [1, 10, 1, 3, 10, 1])
    assert ratio.median == 2.0  # of 2, 2, 3, 3, 1, 1; the medians' ratio is 3
    assert (ratio.low, ratio.high, ratio.pairs) == (1.0, 3.0, 6)


@pytest.mark.parametrize(
    ("count", "rank"),
    [(6, 0), (8, 0), (9, 1), (10, 1), (20, 5), (40, 13)],  # of a table of the sign test
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


def test_no_side_is_always_first():
    assert in_turns(["a", "b", "c"], 0) == ["a", "b", "c"]
    assert in_turns(["a", "b", "c"], 1) == ["c", "b", "a"]


def test_a_record_keeps_the_ratio():
    ratio = Ratio(1.5, 1.25, 1.75, 9)
    assert Ratio.from_json(ratio.to_json()) == ratio
