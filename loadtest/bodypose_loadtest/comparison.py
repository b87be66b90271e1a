"""The comparison of two reports: ratios, and which of them are worse than noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodypose_client.scoring.json_file import read_json
from pose_runtime.errors import PoseError

from .errors import ReportError
from .report import SCHEMA
from .summary import COMPARED, value_of

_MAX_BYTES = 64 * 2**20
# Repeats that lie close together by luck do not make the machine quieter than this.
MIN_NOISE = 0.03
# Settings without which a ratio says nothing about the server.
_SAME = ("scenario", "loop", "protocol", "images", "server")
UNKNOWN_NOISE = 0.15  # of a single repeat


@dataclass(frozen=True, slots=True)
class ReportRatio:
    """One value of one step, new over old; `noise` is the relative change that repeats explain."""

    step: str
    value: str
    ratio: float
    noise: float
    regressed: bool

    def __str__(self) -> str:
        verdict = "WORSE" if self.regressed else "ok"
        return (
            f"{self.step}: {self.value} {self.ratio:.3f} of the old one"
            f" (noise {self.noise:.1%}) {verdict}"
        )


def read_report(path: Path) -> dict[str, Any]:
    """`report.json`, or the folder that holds it.

    Raises:
        ReportError: it is not one.
    """
    path = path / "report.json" if path.is_dir() else path
    try:
        report = read_json(path, "a load test's report", _MAX_BYTES)
    except PoseError as error:
        raise ReportError(f"{path}: expected a load test's report, got {error}") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ReportError(f"{path}: expected a report of schema {SCHEMA}, got something else")
    if not isinstance(report.get("settings"), dict) or not isinstance(report.get("steps"), list):
        raise ReportError(f"{path}: expected `settings` and `steps`, got others")
    for number, step in enumerate(report["steps"]):
        if wrong := _wrong_field(step):
            raise ReportError(f"{path}: steps[{number}]: expected {wrong}")
    return report


def _wrong_field(step: Any) -> str:
    """What is expected of the first part of a step that a comparison could not read; "": none."""
    if not isinstance(step, dict) or not isinstance(step.get("name"), str):
        return "an object with a name"
    if not isinstance(step.get("invalid"), list) or not isinstance(step.get("repeats"), list):
        return "lists `invalid` and `repeats`"
    latency, spread = step.get("latency_ms"), step.get("spread")
    if not isinstance(latency, dict) or not isinstance(spread, dict):
        return "objects `latency_ms` and `spread`"
    for name, _ in COMPARED:
        where = step if name == "throughput" else latency
        if name not in where or not (where[name] is None or _is_amount(where[name])):
            return f"{name} as a number from 0 on, or null"
        bounds = spread.get(name)
        if (
            not isinstance(bounds, list)
            or len(bounds) not in (0, 2)
            or not all(map(_is_amount, bounds))
        ):
            return f"spread.{name} as two numbers from 0 on"
    return ""


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def check_same_settings(new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    """Check that a run with the settings `new` can be compared with one of `old`.

    Raises:
        ReportError: one is about something else.
    """
    for name in _SAME:
        if new[name] != old.get(name):
            raise ReportError(
                f"compare: expected {name} {old.get(name)}, as in the older report, got"
                f" {new[name]}; give the same options"
            )


def compare(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[ReportRatio]:
    """Ratios of the steps that both reports have, and that are valid in both.

    Raises:
        ReportError: there is no such step.
    """
    before = {step["name"]: step for step in old["steps"] if not step["invalid"]}
    ratios = [
        ratio
        for step in new["steps"]
        if not step["invalid"] and step["name"] in before
        for name, more_is_better in COMPARED
        if (ratio := _ratio(name, more_is_better, step, before[step["name"]]))
    ]
    if not ratios:
        raise ReportError("compare: expected steps that are valid in both reports, got none")
    return ratios


def _ratio(
    name: str, more_is_better: bool, new: dict[str, Any], old: dict[str, Any]
) -> ReportRatio | None:
    after, before = value_of(name, new), value_of(name, old)
    if not after or not before:
        return None
    ratio = after / before
    noise = max(MIN_NOISE, _noise(name, new, after) + _noise(name, old, before))
    worse = ratio < 1 - noise if more_is_better else ratio > 1 + noise
    return ReportRatio(new["name"], name, ratio, noise, worse)


def _noise(name: str, step: dict[str, Any], median: float) -> float:
    """How far the repeats lie from their median, at most; relative."""
    if len(step["repeats"]) < 2 or not step["spread"][name]:
        return UNKNOWN_NOISE
    low, high = step["spread"][name]
    return float(max(median - low, high - median) / median)
