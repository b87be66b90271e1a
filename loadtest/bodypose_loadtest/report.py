"""The report folder: JSON for machines, Markdown for people, curves, and every request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodypose_client.files.output_file import write_file

from .perf_csv import perf_csv
from .records import Records, requests_csv

SCHEMA = "bodypose-loadtest/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished load test."""

    report: Mapping[str, Any]
    raw: Sequence[tuple[str, int, Records]]  # first step's name of each stretch, repeat, requests
    images: Sequence[str]  # names, by the number in the records


def write_report(folder: Path, outcome: Outcome) -> None:
    """Write report.json, report.md, curves.png, requests.csv.gz and perf.csv.

    Raises:
        FileError: the folder cannot be written.
    """
    from .charts import draw_curves

    report = outcome.report
    write_file(folder / "report.json", as_json(report))
    write_file(folder / "report.md", markdown(report).encode())
    write_file(folder / "curves.png", draw_curves(report))
    write_file(folder / "requests.csv.gz", requests_csv(outcome.raw, outcome.images))
    write_file(folder / "perf.csv", perf_csv(report["steps"]).encode())


def as_json(report: Mapping[str, Any]) -> bytes:
    return (json.dumps(rounded(report), indent=2) + "\n").encode()


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a page; the curves lie beside it."""
    settings, model, verdict = report["settings"], report["model"], report["verdict"]
    environment = report["environment"]
    lines = [
        f"# Load test: {settings['scenario']}, {settings['protocol']}, {settings['loop']} loop",
        "",
        f"**{verdict_words(report)}**",
        "",
        *[f"* {problem}\n" for problem in (*verdict["invalid"], *verdict["broken"])],
        f"Model {model['model_sha256'][:12] or 'unknown'}, configuration"
        f" {model['config_sha256'][:17] or 'unknown'}, server {model['version']};"
        f" {environment['cpus']} cores of {environment['cpu']}; {settings['repeats']} repeats of"
        f" {settings['duration_s']:g} s after {settings['warm_up_s']:g} s of warm-up,"
        f" images: {settings['images']}, seed {settings['seed']}.",
        "",
        *step_table(report["steps"]),
        "",
        "Latencies are of successful answers, in ms, from the intended start. With a closed loop"
        " users wait for the server, so its latencies leave out the queue that a real crowd forms:"
        " judge latency by an open loop (`--rate`).",
        "",
        "![throughput and latency](curves.png)",
    ]
    if report.get("knee"):
        knee = report["knee"]
        lines += ["", f"Knee: {knee['step']}, {knee['throughput']:.1f} answers/s."]
    if "recovery_s" in report:
        lines += ["", f"The spike is felt for {report['recovery_s']:.1f} s after its end."]
    if report.get("groups"):
        lines += ["", "| image | requests | p50 | p99 |", "|---|---|---|---|"]
        lines += [
            f"| {group['kind']}: {group['group']} | {group['requests']}"
            f" | {_ms(group['latency_ms']['p50'])} | {_ms(group['latency_ms']['p99'])} |"
            for group in report["groups"]
        ]
    remarks = [
        f"* {step['name']}: {text}"
        for step in report["steps"]
        for text in (*step["invalid"], *step["notes"])
    ]
    lines += ["", *remarks] if remarks else []
    return "\n".join(lines) + "\n"


def step_table(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row a step, as Markdown; an invalid step has no numbers of the server."""
    rows = [
        "| step | offered/s | achieved/s | answers/s | good/s | errors | p50 | p90 | p95 | p99"
        " | max | batch | queue | compute | generator |",
        "|---" * 15 + "|",
    ]
    for step in steps:
        times = [_ms(step["latency_ms"][name]) for name in ("p50", "p90", "p95", "p99", "max")]
        cells = [
            f"{step['throughput']:.1f}",
            f"{step['goodput']:.1f}",
            f"{step['error_share']:.2%}",
            *times,
        ]
        if step["invalid"]:
            cells = ["invalid", *["-"] * 7]
        server = step["server"]
        cells += (
            [
                f"{max(model['mean_batch'] for model in server['models'].values()):.2f}",
                _ms(server["queue_ms"]),
                _ms(server["compute_ms"]),
            ]
            if server
            else ["-"] * 3
        )
        rows.append(
            f"| {step['name']} | {step['offered_rate']:.1f} | {step['achieved_rate']:.1f} | "
            + " | ".join([*cells, f"{step['generator_cpu']:.0%}"])
            + " |"
        )
    return rows


def verdict_words(report: Mapping[str, Any]) -> str:
    verdict = report["verdict"]
    if verdict["invalid"]:
        return "INVALID: these are not the server's numbers"
    if not report["slo"]:
        return "MEASURED, without an SLO"
    return "PASSED" if verdict["passed"] else "FAILED"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def rounded(value: Any) -> Any:
    """Numbers as people can read them: four digits after the point are beyond every noise."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
