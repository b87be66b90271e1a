"""Ratios of two sides that took turns, and verdicts that noise cannot turn round.

The figure is the median of the paired ratios. Its interval is that of the sign test: between two
order statistics the median lies with at least 95 % probability, whatever the noise looks like, as
long as pairs are independent. Fewer than six pairs have no such interval, so they decide nothing.

Source: Conover, Practical Nonparametric Statistics (3rd ed., 1999), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

_ERROR: Final = 0.05  # probability that the median lies outside
LEAST_PAIRS: Final = 6  # with five, even the smallest and the largest hold it in 94 % only


class Outcome(StrEnum):
    """What an interval says about a limit."""

    MET = "met"
    MISSED = "missed"
    NOT_DECIDED = "not decided"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median of paired ratios; `low` and `high` hold it with 95 %, None: too few pairs."""

    median: float
    low: float | None
    high: float | None
    pairs: int

    def at_least(self, goal: float) -> Outcome:
        if self.low is None or self.high is None:
            return Outcome.NOT_DECIDED
        if self.low >= goal:
            return Outcome.MET
        return Outcome.MISSED if self.high < goal else Outcome.NOT_DECIDED

    def at_most(self, limit: float) -> Outcome:
        if self.low is None or self.high is None:
            return Outcome.NOT_DECIDED
        if self.high <= limit:
            return Outcome.MET
        return Outcome.MISSED if self.low > limit else Outcome.NOT_DECIDED

    def to_json(self) -> dict[str, Any]:
        """Four digits: more than any noise leaves."""
        named = {"median": self.median, "low": self.low, "high": self.high}
        short = {
            name: None if value is None else float(f"{value:.4g}") for name, value in named.items()
        }
        return {**short, "pairs": self.pairs}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Ratio:
        return cls(raw["median"], raw["low"], raw["high"], raw["pairs"])

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            few = "measured once" if self.pairs == 1 else f"{self.pairs} pairs only"
            return f"{self.median:.2f} ({few})"
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def paired_ratio(ours: ArrayLike, theirs: ArrayLike) -> Ratio:
    """Ours over theirs, pair by pair.

    Args:
        ours: (N,), one number a round, all above 0.
        theirs: (N,), of the same rounds; in every round both sides had their turn.

    Raises:
        ValueError: the sides have not taken turns the same number of times.
    """
    above, below = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if above.shape != below.shape or above.ndim != 1 or not above.size:
        raise ValueError(
            f"paired ratio: expected as many numbers of both sides, got {above.shape} and"
            f" {below.shape}"
        )
    return median_of(above / below)


def median_of(values: ArrayLike) -> Ratio:
    """The median of independent values, and the sign test's interval of it."""
    ordered = np.sort(np.asarray(values, np.float64))
    rank = _rank(len(ordered))
    low, high = (ordered[rank], ordered[-1 - rank]) if rank is not None else (None, None)
    return Ratio(
        float(np.median(ordered)),
        None if low is None else float(low),
        None if high is None else float(high),
        len(ordered),
    )


def _rank(count: int) -> int | None:
    """Of the order statistic, from either end, that bounds the median with 95 %."""
    if count < LEAST_PAIRS:
        return None
    outside, rank = 0.0, -1
    while outside + 2 * comb(count, rank + 1) / 2**count <= _ERROR:
        rank += 1
        outside += 2 * comb(count, rank) / 2**count
    return rank


def verdict(name: str, rule: str, ratio: Ratio, outcome: Outcome) -> dict[str, Any]:
    """For a record's `verdicts`."""
    return {"name": name, "rule": rule, **ratio.to_json(), "outcome": str(outcome)}


def in_turns(names: Sequence[str], number: int) -> list[str]:
    """The sides of a round, in an order that alternates, so that no side is always first."""
    return list(names) if number % 2 == 0 else list(reversed(names))
