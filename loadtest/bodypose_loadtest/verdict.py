"""The verdict on a load test: passed, failed, or invalid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .knee import knee_of
from .scenarios import Scenario
from .slo import Slo

Steps = Sequence[Mapping[str, Any]]  # summaries of `summary.summarise`


def knee_found(scenario: Scenario, steps: Steps) -> dict[str, Any] | None:
    """The knee of a `step` scenario, if its load reached it."""
    place = knee_of(steps) if scenario is Scenario.STEP else None
    if place is None:
        return None
    step = steps[place]
    return {"step": step["name"], "load": step["load"], "throughput": step["throughput"]}


def verdict_on(
    scenario: Scenario, slo: Slo, steps: Steps, knee: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Whether the SLO holds where it counts; `invalid` lists why that cannot be said."""
    judged = [step for step in steps if step["judged"] or _is_knee(step, knee)]
    invalid = [f"{step['name']}: {why}" for step in judged for why in step["invalid"]]
    if scenario is Scenario.STEP and knee is None:
        invalid.append("no knee: the load never reached it; add higher levels to --users or --rate")
    broken = [f"{step['name']}: {why}" for step in judged for why in slo.broken(step)]
    return {"passed": not (invalid or broken), "broken": broken, "invalid": invalid}


def _is_knee(step: Mapping[str, Any], knee: Mapping[str, Any] | None) -> bool:
    return knee is not None and step["name"] == knee["step"]
