"""The knee: the last step before more load brings waiting instead of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .orders import Loop

MIN_GAIN = 1.05
MAX_P95_GROWTH = 2.0
# One step without a gain may be noise, or a batch that does not fill yet; two are not.
_STEPS_TO_SETTLE = 2

Steps = Sequence[Mapping[str, Any]]  # `StepResult.to_json` or its summary, of rising load


def knee_of(steps: Steps) -> int | None:
    """The place of the knee, or None when the load never reached it.

    With a closed loop it is the first step over which none of the later ones gains 5 % throughput:
    that twice as many users wait twice as long says nothing. With an open loop it is the step
    before p95 doubles. An invalid step gains nothing, and is no knee.
    """
    for place, step in enumerate(steps[:-1]):
        if step["invalid"]:
            return None
        later = steps[place + 1 :]
        if step["loop"] == Loop.OPEN:
            later = later[:1]
        if all(_is_past(step, each) for each in later):
            return place
    return None


def knee_is_settled(steps: Steps) -> bool:
    """Whether more steps would only wait longer."""
    place = knee_of(steps)
    if place is None:
        return False
    return steps[place]["loop"] == Loop.OPEN or len(steps) - 1 - place >= _STEPS_TO_SETTLE


def _is_past(step: Mapping[str, Any], later: Mapping[str, Any]) -> bool:
    if later["invalid"] or later["throughput"] < MIN_GAIN * step["throughput"]:
        return True
    if step["loop"] == Loop.CLOSED:
        return False
    before, after = step["latency_ms"]["p95"], later["latency_ms"]["p95"]
    return after is None or (before is not None and after >= MAX_P95_GROWTH * before)
