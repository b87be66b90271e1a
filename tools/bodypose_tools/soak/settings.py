"""The plan of a soak: its duration and load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """Duration, load and kills of a soak; `rate` is in requests a second."""

    seconds: float
    rate: float
    hostile_share: float = 0.05
    kill_every_s: float = 300.0
    sample_every_s: float = 5.0
