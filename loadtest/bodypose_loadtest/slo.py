"""The service level: `p99=50ms,errors<0.1%`, and which of its bounds a step breaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import PlanError

_LATENCIES = ("p50", "p90", "p95", "p99", "max")
_BOUND = re.compile(r"(p50|p90|p95|p99|max|errors|rate)\s*(<=|>=|=|<|>)\s*([\d.]+)\s*(ms|s|%|/s|)")
_EXAMPLE = "p99=50ms,errors<0.1%,rate>=20/s"


@dataclass(frozen=True, slots=True)
class Slo:
    """Bounds; latencies in ms, errors a share in 0..1, `rate` answers/s at least."""

    bounds: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Read `name=value` with commas between; `=` means at most, for `rate` at least.

        Raises:
            PlanError: saying which bound is not understood.
        """
        bounds = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            found = _BOUND.fullmatch(part)
            value = _value(*found.group(1, 2, 3, 4)) if found else None
            if found is None or value is None:
                raise PlanError(f"--slo: expected bounds such as {_EXAMPLE}, got {part!r}")
            bounds[found[1]] = value
        return cls(bounds)

    @property
    def latency_ms(self) -> float:
        """The latency that one request may have to count as good; infinite without a bound."""
        return min(
            (self.bounds[name] for name in _LATENCIES if name in self.bounds),
            default=float("inf"),
        )

    def broken(self, step: Mapping[str, Any]) -> list[str]:
        """What of a step's summary (`StepResult.to_json`) is beyond its bound, in words."""
        problems = []
        for name, bound in self.bounds.items():
            if name == "rate":
                if step["throughput"] < bound:
                    problems.append(f"rate {step['throughput']:.1f}/s < {bound:g}/s")
            elif name == "errors":
                if step["error_share"] > bound:
                    problems.append(f"errors {step['error_share']:.2%} > {bound:.2%}")
            elif (latency := step["latency_ms"][name]) is None:
                problems.append(f"{name}: nothing was answered")
            elif latency > bound:
                problems.append(f"{name} {latency:.1f} ms > {bound:g} ms")
        return problems


def _value(name: str, sign: str, number: str, unit: str) -> float | None:
    """The bound in our units; None when sign or unit does not fit."""
    try:
        value = float(number)
    except ValueError:
        return None
    if (sign in (">", ">=")) != (name == "rate") and sign != "=":
        return None
    scale = {
        "errors": {"%": 0.01, "": 1.0},
        "rate": {"/s": 1.0, "": 1.0},
    }.get(name, {"ms": 1.0, "s": 1000.0}).get(unit)
    return None if scale is None else value * scale
