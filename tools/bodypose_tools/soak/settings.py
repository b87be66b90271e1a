"""How long a soak runs, and with how much load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """What a soak does; rates are per second."""

    seconds: float
    rate: float
    hostile_share: float = 0.05
    kill_every_s: float = 300.0
    sample_every_s: float = 5.0
