"""The published result: knee, latency below it, overload and soak of one server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bodypose_client.files.output_file import write_file
from bodypose_tools.files.json_records import write_record
from bodypose_tools.results.record import Measurement as Record

from .errors import LoadTestError
from .headroom import measure_headroom
from .machine import environment
from .orders import Loop
from .plan import LoadTestPlan, Target, target_of
from .report import rounded, write_report
from .run import run_on
from .scenarios import SPIKE_FACTOR, Load, Scenario

SCHEMA = "bodypose-loadtest-result/1"
NOT_MEASURED = "Not measured yet: run `pose-loadtest result`."
_BLOCK = re.compile(r"(<!-- result:[^>]*-->\n)(.*?)(<!-- end of result -->)", re.S)
_HEADROOM_S = 10.0
_LEFT_OUT = ("repeats",)


class NoKnee(LoadTestError):
    """The load never reached the server's limit, so there is nothing to relate rates to."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured, one part after the other, on one server."""

    plan: LoadTestPlan  # how each step is run
    soak_s: float
    reports: Path  # folder for each part's whole report

    def measure(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Run all of it.

        Raises:
            NoKnee: the most users did not reach the server's limit, or the generator's came first.
            LoadTestError: as `run_load_test`.
        """
        record = Record(timed=True)
        plan = self.plan
        # A spike's duration is that of its three steps together.
        longer = replace(plan, scenario=Scenario.SPIKE, duration_s=3 * plan.duration_s)
        soaking = replace(plan, scenario=Scenario.SOAK, duration_s=self.soak_s, repeats=1)
        with target_of(plan) as target:
            whole = self._part("knee", target, plan, say)
            if not whole["knee"]:
                raise NoKnee(
                    f"knee: expected one below {plan.load.levels[-1]:g} users, got none; see"
                    f" {self.reports / 'knee' / 'report.md'}"
                )
            knee = whole["knee"]["throughput"]
            record.between()
            half, most = (
                self._part(name, target, _at(share * knee, plan, Scenario.OPEN), say)["steps"][0]
                for name, share in (("half", 0.5), ("most", 0.8))
            )
            spike = self._part("overload", target, _at(2 * knee / SPIKE_FACTOR, longer), say)
            soak = self._part("soak", target, _at(0.5 * knee, soaking), say)
        before, during, after = map(_short, spike["steps"])
        measured = {
            "schema": SCHEMA,
            "model": whole["model"],
            "environment": environment(),
            "settings": plan.to_json() | {"soak_s": self.soak_s},
            "knee": whole["knee"],
            "steps": [_short(each) for each in whole["steps"]],
            "at_50_percent": _short(half),
            "at_80_percent": _short(most),
            "overload": {
                "before": before,
                "during": during,
                "after": after,
                "recovery_s": spike["recovery_s"],
            },
            "soak": _short(soak["steps"][0]) | {"timeline": soak["timeline"]},
            "headroom": measure_headroom(_HEADROOM_S, plan.images, plan.repository)["protocols"],
        }
        return record.record(
            rounded(measured),
            models=[{"name": "bodypose", "sha256": whole["model"]["model_sha256"]}],
            data=[plan.images] if plan.images else [],
            seeds={"arrivals": plan.seed},
            repeats={"rounds": plan.repeats, "order": "one after the other"},
        )

    def _part(
        self, name: str, target: Target, plan: LoadTestPlan, say: Callable[[str], None]
    ) -> Any:
        say(f"-- {name}")
        outcome = run_on(target, plan, say)
        write_report(self.reports / name, outcome)
        return outcome.report


def _at(rate: float, plan: LoadTestPlan, scenario: Scenario | None = None) -> LoadTestPlan:
    load = Load(Loop.OPEN, (round(rate, 2),))
    return replace(plan, load=load, scenario=scenario or plan.scenario)


def write_result(path: Path, page: Path | None, result: Mapping[str, Any]) -> None:
    """Write the file, and the table of the page that quotes it."""
    write_record(path, result)
    if page:
        write_file(page, with_table(page.read_text(), result).encode())


def with_table(page: str, result: Mapping[str, Any] | None) -> str:
    """The page's text with the table of `result` between its marks.

    Raises:
        LoadTestError: the marks are missing.
    """
    if not _BLOCK.search(page):
        raise LoadTestError("page: expected `<!-- result: ... -->` marks, got none")
    table = result_table(result) if result else NOT_MEASURED
    return _BLOCK.sub(lambda found: f"{found[1]}{table}\n{found[3]}", page)


def result_table(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    knee, overload, soak = result["knee"], result["overload"], result["soak"]
    rows = [
        "| load | offered/s | answers/s | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|",
        *(_row(step["name"] + _mark(step, knee), step) for step in result["steps"]),
        _row("50 % of the knee, open loop", result["at_50_percent"]),
        _row("80 % of the knee, open loop", result["at_80_percent"]),
        _row("200 % of the knee, open loop", overload["during"]),
        _row("50 % right after that", overload["after"]),
        _row(f"soak of {result['settings']['soak_s'] / 60:.3g} minutes at 50 %", soak),
    ]
    machine = soak["machine"]
    others = max(step["machine"].get("other_cores", 0.0) for step in [*result["steps"], soak])
    headroom = ", ".join(
        f"{rates['ratio']:.0f} times the server's rate over {protocol}"
        for protocol, rates in result["headroom"].items()
    )
    words = [
        f"Knee: {knee['throughput']:.1f} answers/s with {knee['load']:g} users."
        f" Soak: {soak['requests']:.0f} requests, server memory"
        f" {machine['server_mib_begin']:.0f} MiB in the first quarter and"
        f" {machine['server_mib_end']:.0f} MiB in the last.",
        f"Twice the knee's rate for {result['settings']['duration_s']:g} s is felt for"
        f" {overload['recovery_s']:.1f} s after it.",
        f"The generator reaches {headroom}, beside an instant server on the same cores.",
        f"Model {result['model']['model_sha256'][:12]},"
        f" {result['environment']['cpus']} cores of {result['environment']['cpu']}; medians of"
        f" {result['settings']['repeats']} repeats of {result['settings']['duration_s']:g} s."
        f" Other programs used at most {others:.2f} cores meanwhile.",
    ]
    return "\n".join([*rows, "", *words])


def _row(name: str, step: Mapping[str, Any]) -> str:
    cells = [f"{step['throughput']:.1f}", *(_ms(step["latency_ms"][p]) for p in ("p50", "p99"))]
    if step["invalid"]:
        # What it answered is still true of an overload; how long that took is of no server.
        cells[1:] = ["invalid", "invalid"]
    return (
        f"| {name} | {step['offered_rate']:.1f} | {' | '.join(cells)} | {step['error_share']:.2%} |"
    )


def _mark(step: Mapping[str, Any], knee: Mapping[str, Any]) -> str:
    return " (knee)" if step["name"] == knee["step"] else ""


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _short(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step without its repeats one by one: those are in the part's whole report."""
    return {name: value for name, value in step.items() if name not in _LEFT_OUT}
