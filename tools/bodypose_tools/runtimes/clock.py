"""Times of several sides that take turns, so that other work of the machine slows all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.results.ratios import in_turns, paired_ratio

Seconds = NDArray[np.float64]
_WARM_UP = 3


def take_turns(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    repeats: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    halfway: Callable[[], object] = lambda: None,
) -> dict[str, Seconds]:
    """Seconds of each side in each round, (rounds,): the fastest of `repeats` calls in a row.

    The order of a round alternates, so that no side always follows the same one. `halfway` is
    called once between two rounds.
    """
    for side in sides.values():
        for _ in range(_WARM_UP):
            side()
    seconds = {name: np.empty(rounds) for name in sides}
    for number in range(rounds):
        if number == rounds // 2:
            halfway()
        for name in in_turns(list(sides), number):
            side = sides[name]
            fastest = np.inf
            for _ in range(repeats):
                started = clock()
                side()
                fastest = min(fastest, clock() - started)
            seconds[name][number] = fastest
    return seconds


def milliseconds(seconds: Seconds) -> dict[str, float]:
    """Median, 10th and 90th percentile, in milliseconds."""
    return spread(seconds * 1000)


def times_as_fast(side: Seconds, baseline: Seconds) -> dict[str, Any]:
    """How many times as fast as the baseline: median of the rounds' ratios, their middle 80 %, and
    between `low` and `high` the median's 95 % interval.
    """
    return {**spread(baseline / side), **paired_ratio(baseline, side).to_json()}


def spread(values: Seconds) -> dict[str, float]:
    """Median, 10th and 90th percentile, with four significant digits."""
    low, middle, high = np.percentile(values, (10, 50, 90))
    return {"median": _short(middle), "p10": _short(low), "p90": _short(high)}


def compared(seconds: Mapping[str, Seconds], baseline: str) -> dict[str, Any]:
    """For JSON: each side's milliseconds, and how many times as fast as `baseline` it is."""
    return {
        name: {
            "milliseconds": milliseconds(values),
            "times_as_fast": times_as_fast(values, seconds[baseline]),
        }
        for name, values in seconds.items()
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
