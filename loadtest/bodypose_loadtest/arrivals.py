"""The times at which requests are meant to start, drawn before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of constant load: `load` is users (closed loop) or requests/s (open loop)."""

    load: float
    seconds: float


def poisson_arrivals(phases: Sequence[Phase], random: np.random.Generator) -> NDArray[np.float64]:
    """Seconds after the start, ascending; the rate of each phase is its `load`."""
    begin, arrivals = 0.0, []
    for phase in phases:
        count = random.poisson(phase.load * phase.seconds)
        # Given their number, the arrivals of a Poisson process are uniform over the phase.
        arrivals.append(begin + np.sort(random.uniform(0, phase.seconds, count)))
        begin += phase.seconds
    return np.concatenate(arrivals) if arrivals else np.empty(0)


def users_at(phases: Sequence[Phase], seconds: float) -> int:
    """How many users are at work so long after the start; 0 once it is over."""
    for phase in phases:
        if seconds < phase.seconds:
            return round(phase.load)
        seconds -= phase.seconds
    return 0


def total_s(phases: Sequence[Phase]) -> float:
    return sum(phase.seconds for phase in phases)
