"""The result of a step's records, and whether it is the server's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .orders import Loop
from .records import Records
from .scenarios import Step

# Below this share of what was asked for, a number is not reported as the server's.
MIN_ACHIEVED = 0.95
MAX_GENERATOR_CPU = 0.9
MIN_USERS_WAITING = 0.9
# Latency includes the generator's lag, which may be so much of it, or so many ms.
_MAX_LAG = 0.1
_LAG_MS = {"p50": 2.0, "p99": 5.0}
_STALL_S = 1.0
_PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}


@dataclass(frozen=True, slots=True)
class StepResult:
    """One measured step. Rates are per second of the step; latencies are of successes only."""

    name: str
    loop: Loop
    load: float
    seconds: float
    requests: int  # meant to start in the step
    offered_rate: float
    achieved_rate: float  # answers of any kind, within the step
    throughput: float  # successful answers, within the step
    goodput: float  # of them, those within the SLO's latency
    errors: Mapping[str, int]
    latency_ms: Mapping[str, float | None]
    in_flight: float  # requests that were waiting for their answer, on average
    send_lag_ms: Mapping[str, float | None]  # how late requests left the generator
    longest_silence_s: float  # nothing was answered although something was asked
    generator_cpu: float  # cores, of the busiest process
    invalid: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    judged: bool = True
    server: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def error_share(self) -> float:
        return sum(self.errors.values()) / self.requests if self.requests else 0.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "error_share": self.error_share}


def measure_step(
    step: Step,
    loop: Loop,
    window_s: tuple[float, float],
    records: Records,
    generator_cpu: float,
    good_ms: float = float("inf"),
) -> StepResult:
    """Numbers of the part of `records` that belongs to one step.

    Args:
        step: what was asked for.
        loop: who decided when requests start.
        window_s: the step's begin and end in the records' time.
        records: of the whole stretch.
        generator_cpu: cores that the busiest generator process used.
        good_ms: the latency up to which an answer is good.
    """
    begin, end = window_s
    rows = records.rows
    ended = (begin <= rows["end"]) & (rows["end"] < end)
    good = ended & records.ok & (records.latency_s * 1000 <= good_ms)
    within = records.intended_within(begin, end)
    latency_ms = within.latency_s[within.ok] * 1000
    seconds = end - begin
    silence_s, silent_from_s = longest_silence(within.rows)
    lag_ms = (within.rows["start"] - within.rows["intended"]) * 1000
    result = StepResult(
        name=step.name,
        loop=loop,
        load=step.load,
        seconds=seconds,
        requests=len(within.rows),
        offered_rate=len(within.rows) / seconds,
        achieved_rate=float(np.sum(ended)) / seconds,
        throughput=float(np.sum(ended & records.ok)) / seconds,
        goodput=float(np.sum(good)) / seconds,
        errors=_errors(within),
        latency_ms=latencies(latency_ms),
        in_flight=_in_flight(rows, begin, end),
        send_lag_ms=latencies(lag_ms),
        longest_silence_s=silence_s,
        generator_cpu=generator_cpu,
        judged=step.judged,
    )
    notes: tuple[str, ...] = ()
    if silence_s > max(_STALL_S, 5 * (result.latency_ms["p50"] or 0) / 1000):
        at = silent_from_s - begin
        notes = (f"stall: no answer for {silence_s:.2f} s, {at:.1f} s after the step's begin",)
    return replace(result, invalid=tuple(reasons_against(result)), notes=notes)


def reasons_against(result: StepResult) -> list[str]:
    """Why a step's numbers are not the server's; none when they are."""
    if not result.requests:
        return ["no request was sent; the step is too short for its load"]
    reasons = []
    if result.generator_cpu > MAX_GENERATOR_CPU:
        reasons.append(
            f"generator: {result.generator_cpu:.2f} cores busy in one process, at most"
            f" {MAX_GENERATOR_CPU}; add --processes"
        )
    if result.loop is Loop.CLOSED:
        if result.in_flight < MIN_USERS_WAITING * result.load:
            reasons.append(_about_users(result))
        return reasons
    for name, tolerated_ms in _LAG_MS.items():
        lag_ms, latency_ms = result.send_lag_ms[name] or 0.0, result.latency_ms[name] or 0.0
        if lag_ms > max(tolerated_ms, _MAX_LAG * latency_ms):
            reasons.append(f"generator: requests left {lag_ms:.1f} ms late ({name})")
    if result.achieved_rate < MIN_ACHIEVED * result.offered_rate:
        share = result.achieved_rate / result.offered_rate
        reasons.append(f"achieved {share:.0%} of the rate: the server is beyond its capacity")
    return reasons


def _about_users(result: StepResult) -> str:
    """Little's law: a user who does not wait for the server waits for the generator."""
    serialised = result.load > 1 and result.in_flight < 1.1
    return (
        f"generator: {result.load:g} users kept {result.in_flight:.1f} requests in flight"
        f"{': calls are serialised' if serialised else ''}"
    )


def latencies(latency_ms: NDArray[np.float64]) -> dict[str, float | None]:
    """Percentiles by name; None when nothing succeeded."""
    if not len(latency_ms):
        return dict.fromkeys([*_PERCENTILES, "mean"])
    values = np.percentile(latency_ms, list(_PERCENTILES.values()))
    named = dict(zip(_PERCENTILES, map(float, values), strict=True))
    return {**named, "mean": float(latency_ms.mean())}


def longest_silence(rows: NDArray[Any]) -> tuple[float, float]:
    """The longest time in which requests waited and none was answered, and when it began."""
    if len(rows) < 2:
        return 0.0, 0.0
    rows = rows[np.argsort(rows["end"])]
    # The earliest start among the requests that are still to be answered after each answer.
    waiting_since = np.minimum.accumulate(rows["start"][::-1])[::-1][1:]
    silent_from = np.maximum(rows["end"][:-1], waiting_since)
    silence = rows["end"][1:] - silent_from
    longest = int(np.argmax(silence))
    return float(silence[longest]), float(silent_from[longest])


def _in_flight(rows: NDArray[Any], begin: float, end: float) -> float:
    overlap = np.minimum(rows["end"], end) - np.maximum(rows["start"], begin)
    return float(np.clip(overlap, 0, None).sum() / (end - begin))


def _errors(records: Records) -> dict[str, int]:
    counts = np.bincount(records.rows["error"], minlength=len(records.errors))
    return {
        kind: int(count)
        for kind, count in zip(records.errors, counts, strict=True)
        if kind and count
    }
