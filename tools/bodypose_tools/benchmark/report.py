"""Owns docs/performance.md: the table of one run's results, and what each goal makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bodypose_tools.results.record import KEY

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One goal: what was measured, and whether it holds. `holds` None: nothing to hold."""

    subject: str
    measured: str
    goal: str
    holds: bool | None


def report(record: Record, notes: str, plots: dict[str, str]) -> str:
    """The page as Markdown.

    Args:
        record: of `run_benchmark`; subjects that were not measured have no rows.
        notes: what a person wrote about the results, Markdown.
        plots: file name by caption.
    """
    made = record[KEY]
    machine = made["machine"]
    lines = [
        "# Performance",
        "",
        "Made by `tools benchmark` and `tools benchmark-report`; the numbers are in"
        " `docs/results/performance.json`. Both sides of a ratio took turns in one run.",
        "",
        f"{made['date'][:10]}, `{record['model']['name']}` ({record['model']['sha256'][:12]}),"
        f" {record['effort']} run, {record['threads']} threads of {machine['cores']} cores of"
        f" {machine['cpu']} ({', '.join(machine['instructions'])}), load average at the start"
        f" {machine['load_before']}.",
        "",
        "| subject | measured | goal | |",
        "|---|---|---|---|",
    ]
    marks = {True: "met", False: "missed", None: ""}
    lines += [
        f"| {row.subject} | {row.measured} | {row.goal} | {marks[row.holds]} |"
        for row in rows_of(record)
    ]
    for caption, file in plots.items():
        lines += ["", f"![{caption}]({file})"]
    return "\n".join(lines) + "\n\n" + notes.strip() + "\n"


def rows_of(record: Record) -> Iterator[Row]:
    makers = {
        "decoding": _decoding,
        "preprocessing": _preprocessing,
        "runtimes": _runtimes,
        "serving": _serving,
        "rivals": _rivals,
    }
    for name, make in makers.items():
        if name in record:
            yield from make(record[name])


def _decoding(part: Record) -> Iterator[Row]:
    people = {int(count): spent["median"] for count, spent in part["grouping"]["by_people"].items()}
    for count, limit in ((10, 0.05), (20, 0.2)):
        yield Row(
            f"grouping, {count} people",
            f"{people[count]:.3f} ms",
            f"<= {limit} ms",
            people[count] <= limit,
        )
    growth = people[50] / people[10]
    yield Row("grouping, 50 people against 10", f"{growth:.1f} x", "<= 5 x", growth <= 5)
    worst = part["grouping"]["noise"]["median"]
    yield Row("grouping, noise everywhere", f"{worst:.2f} ms", "<= 3 ms", worst <= 3)
    for runtime, spent in part["layers"].items():
        whole = spent["milliseconds"]["median"] + people[10]
        yield Row(
            f"decoding layers ({runtime}) and grouping of 10 people",
            f"{whole:.2f} ms",
            "<= 1 ms with the hop",
            whole <= 1,
        )


def _preprocessing(part: Record) -> Iterator[Row]:
    goals = {"640x480": 1.5, "1920x1080": 2.5, "3840x2160": 4.0}
    for name, case in part.items():
        ratio = case["ours"]["times_as_fast"]
        goal = goals[name.split()[0]]
        least = case["least"]["times_as_fast"]["median"]
        yield Row(
            f"decode and letterbox, {name}, against OpenCV",
            f"{_ratio(ratio)}; reading the entropy-coded data alone: {least:.1f} x",
            f">= {goal:g} x",
            ratio["median"] >= goal,
        )


def _runtimes(part: Record) -> Iterator[Row]:
    for batch, sides in part["by_batch"].items():
        said = ", ".join(
            f"{name} {side['milliseconds']['median']:.0f} ms"
            f" ({side['times_as_fast']['median']:.2f} x)"
            for name, side in sides.items()
        )
        yield Row(f"network, batch {batch}", said, "the fastest is the default", None)
    for precision, hints in part["throughput_hint_images_per_s"].items():
        said = ", ".join(f"{hint} {rate['median']:.0f} images/s" for hint, rate in hints.items())
        yield Row(f"OpenVINO's hints, {precision}", said, "", None)


def _serving(part: Record) -> Iterator[Row]:
    cold = part["cold_start"]
    yield Row("ready", f"{cold['ready_s']} s", "<= 4 s", cold["ready_s"] <= 4)
    yield Row(
        "memory of all processes", f"{cold['rss_mb']} MB", "<= 1200 MB", cold["rss_mb"] <= 1200
    )
    after = part["memory_after"]
    growth = 100 * (after["rss_mb"] / cold["rss_mb"] - 1)
    said = f"{growth:+.1f} % after {after['images']} images, with the first batches' buffers"
    yield Row("growth of memory", said, "< 2 % over 20,000 images: `pose-loadtest`", None)
    share = part["share_of_ideal"]
    yield Row("ensemble against the in-process ideal", f"{share}", ">= 0.92", share >= 0.92)
    added = part["one_client"]["added_ms"]
    yield Row("one client: latency above the steps", f"{added} ms", "<= 2 ms", added <= 2)
    for protocol, curve in part["by_clients"].items():
        said = ", ".join(f"{step['clients']}: {step['images_per_s']:.0f}" for step in curve)
        yield Row(f"images/s by clients, {protocol}", said, "", None)
    overload = part["overload"]
    yield Row(
        "throughput at 8 times the knee's clients",
        f"{overload['share_of_peak']} of the peak, p99 {overload['above']['latency_ms']['p99']} ms,"
        f" {overload['above']['refused']} refused",
        ">= 0.95",
        overload["share_of_peak"] >= 0.95,
    )
    times = part["client_side"]["times_as_fast"]
    yield Row(
        "ensemble against pre- and postprocessing in a Python client",
        f"{times} x",
        ">= 1.3 x",
        times >= 1.3,
    )


def _rivals(part: Record) -> Iterator[Row]:
    ours = {name: side for name, side in part["sides"].items() if name.startswith("shipped")}
    for name, side in part["sides"].items():
        ratio = side["times_as_fast"]["median"]
        said = f"{side['milliseconds']['median']:.1f} ms"
        if name in ours:
            yield Row(f"one photo end to end: {name}", f"{said}, {ratio:.2f} x", "", None)
            continue
        # A runtime and precision that ours has, too, is held against that; another against all.
        _, _, how = name.rpartition(", ")
        alike = [our for our in ours if our.endswith(how)] or list(ours)
        goal = 20.0 if "vgg19" in name else 1.0
        for our in alike:
            times = ours[our]["times_as_fast"]["median"] / ratio
            measured = f"{times:.2f} x ({said})"
            yield Row(f"{our}, against {name}", measured, f">= {goal:g} x", times >= goal)
    scores = part["ap"]
    if rivals := [score for name, score in scores.items() if name not in ours]:
        said = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
        least = min(score for name, score in scores.items() if name in ours)
        yield Row("AP on the same images", said, "the highest", least > max(rivals))


def _ratio(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} x ({ratio['p10']:.2f} to {ratio['p90']:.2f})"
