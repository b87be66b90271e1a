"""The summary of a step's repeats: medians, and how far the repeats lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .step_result import StepResult

# What a comparison looks at: (name, path in the summary, whether more is better).
COMPARED = (("throughput", True), ("p50", False), ("p99", False))


def summarise(repeats: Sequence[StepResult]) -> dict[str, Any]:
    """One step: medians over its valid repeats (over all when none is), and their range.

    The step is invalid when no majority of its repeats is valid.
    """
    valid = [result for result in repeats if not result.invalid]
    counted = valid or list(repeats)
    summary = _median([result.to_json() for result in counted])
    invalid: list[str] = []
    if 2 * len(valid) <= len(repeats):
        invalid = sorted({reason for result in repeats for reason in result.invalid})
    return {
        **summary,
        "invalid": invalid,
        "notes": [note for result in repeats for note in result.notes],
        "valid_repeats": f"{len(valid)} of {len(repeats)}",
        "errors": _added([result.errors for result in counted]),
        "spread": {name: _range(name, counted) for name, _ in COMPARED},
        "repeats": [result.to_json() for result in repeats],
    }


def value_of(name: str, step: dict[str, Any]) -> float | None:
    """A compared value of a step's summary."""
    found = step["throughput"] if name == "throughput" else step["latency_ms"][name]
    return None if found is None else float(found)


def _range(name: str, results: Sequence[StepResult]) -> list[float]:
    values = [value_of(name, result.to_json()) for result in results]
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else []


def _added(errors: Sequence[Any]) -> dict[str, int]:
    kinds = sorted({kind for counts in errors for kind in counts})
    return {kind: sum(counts.get(kind, 0) for counts in errors) for kind in kinds}


def _median(values: Sequence[Any]) -> Any:
    """The median of numbers, through dictionaries of the same shape; else the first value."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _median([value[key] for value in values if key in value]) for key in first}
    if isinstance(first, int | float) and not isinstance(first, bool):
        return float(np.median([value for value in values if value is not None]))
    return next((value for value in values if value is not None), None)
