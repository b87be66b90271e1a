"""The scenarios: which load, for how long, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .arrivals import Phase
from .errors import PlanError
from .orders import Loop

DEFAULT_USERS = (1, 2, 4, 8, 16, 32)
SPIKE_FACTOR = 4.0


class Scenario(StrEnum):
    """The course of the load over time."""

    STEADY = "steady"  # one load
    STEP = "step"  # more and more, until the server gives no more
    SPIKE = "spike"  # four times as much for a third of the time
    SOAK = "soak"  # one load for long: memory and errors over time
    MIXED = "mixed"  # one load of small and large images, reported apart
    OPEN = "open"  # Poisson arrivals at a rate


@dataclass(frozen=True, slots=True)
class Step:
    """A measured stretch of one load: users (closed loop) or requests/s (open loop)."""

    name: str
    load: float
    seconds: float
    judged: bool = True  # whether the SLO counts here


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps without a pause between them, after a warm-up that is not counted."""

    loop: Loop
    steps: tuple[Step, ...]
    warm_up_s: float

    @property
    def phases(self) -> tuple[Phase, ...]:
        first = Phase(self.steps[0].load, self.warm_up_s)
        return (first, *(Phase(step.load, step.seconds) for step in self.steps))

    def windows(self) -> list[tuple[Step, float, float]]:
        """Each step with its begin and end, in seconds after the stretch's start."""
        begin, windows = self.warm_up_s, []
        for step in self.steps:
            windows.append((step, begin, begin + step.seconds))
            begin += step.seconds
        return windows


@dataclass(frozen=True, slots=True)
class Load:
    """The load of `--users` or `--rate`."""

    loop: Loop
    levels: tuple[float, ...]

    @classmethod
    def parse(cls, scenario: Scenario, users: str | None, rate: str | None) -> Load:
        """One or more levels, such as `8` or `1,2,4`.

        Raises:
            PlanError: both, neither where one is needed, or not numbers above 0.
        """
        if users and rate:
            raise PlanError("load: expected --users (closed loop) or --rate (open loop), got both")
        if scenario is Scenario.OPEN and not rate:
            raise PlanError("load: expected --rate for open, got none; add `--rate 20`")
        levels = _numbers("--rate", rate) if rate else _numbers("--users", users or "")
        if not levels:
            levels = DEFAULT_USERS if scenario is Scenario.STEP else (4.0,)
        if not rate and any(level != round(level) for level in levels):
            raise PlanError(f"--users: expected integers, got {users}")
        if scenario is not Scenario.STEP and len(levels) > 1:
            raise PlanError(f"load: expected one level for {scenario}, got {len(levels)}")
        return cls(Loop.OPEN if rate else Loop.CLOSED, tuple(sorted(levels)))


def stretches(scenario: Scenario, load: Load, duration_s: float, warm_up_s: float) -> list[Stretch]:
    """The scenario's work, in order; `duration_s` is of each step, for spike of all three."""
    unit = "users" if load.loop is Loop.CLOSED else "rate"
    if scenario is Scenario.SPIKE:
        level, third = load.levels[0], duration_s / 3
        steps = (
            Step(f"before, {unit} {level:g}", level, third),
            Step(f"spike, {unit} {SPIKE_FACTOR * level:g}", SPIKE_FACTOR * level, third, False),
            Step(f"after, {unit} {level:g}", level, third),
        )
        return [Stretch(load.loop, steps, warm_up_s)]
    return [
        Stretch(
            load.loop,
            # Which load a server should bear is what `step` looks for: only the knee is judged.
            (Step(f"{unit} {level:g}", level, duration_s, scenario is not Scenario.STEP),),
            warm_up_s,
        )
        for level in load.levels
    ]


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        numbers = (0.0,)
    if any(not 0 < number < 1e6 for number in numbers):
        raise PlanError(f"{name}: expected numbers above 0, such as 8 or 1,2,4, got {text!r}")
    return numbers


def seconds_in(text: str) -> float:
    """`30`, `30s`, `5m` or `1h` as seconds.

    Raises:
        PlanError: anything else.
    """
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise PlanError(f"duration: expected 30s, 5m or 1h, got {text!r}")
    return seconds
