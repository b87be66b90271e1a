"""docs/performance.md: the results of one run in a table, each with its goal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bodypose_tools.results.ratios import LEAST_PAIRS, Outcome, Ratio
from bodypose_tools.results.record import KEY

Record = dict[str, Any]

# Rival -> model of ours -> how many times as fast it should be.
_RIVAL_GOALS = {
    "bodypose-vgg19": {"bodypose-xs": 20.0},
    "movenet-multipose": {"bodypose-xs": 1.0, "bodypose-s": 0.7},
}


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement, its goal, and the outcome; None where there is no goal."""

    subject: str
    measured: str
    goal: str
    outcome: Outcome | None


def report(record: Record, notes: str, plots: dict[str, str]) -> str:
    """The page as Markdown.

    Args:
        record: of `run_benchmark`; subjects that were not measured have no rows.
        notes: text about the results, Markdown.
        plots: file name by caption.
    """
    made = record[KEY]
    machine = made["machine"]
    lines = [
        "# Performance",
        "",
        "Made by `tools benchmark` and `tools benchmark-report`; the numbers are in"
        " `docs/results/performance.json`. A goal is met or missed when the whole interval is on"
        " one side of it; otherwise, and with fewer than six pairs of turns, it is not decided.",
        "",
        f"{made['date'][:10]}, `{record['model']['name']}` ({record['model']['sha256'][:12]}),"
        f" {record['effort']} run, {record['threads']} threads of {machine['cores']} cores of"
        f" {machine['cpu']} ({', '.join(machine['instructions'])}), load average at the start"
        f" {machine['load_before']}. {_noise_words(made['noise'])}",
        "",
        "| subject | measured | goal | |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row.subject} | {row.measured} | {row.goal} | {row.outcome or ''} |"
        for row in rows_of(record)
    ]
    for caption, file in plots.items():
        lines += ["", f"![{caption}]({file})"]
    return "\n".join(lines) + "\n\n" + notes.strip() + "\n"


def rows_of(record: Record) -> Iterator[Row]:
    """The rows of every subject that was measured."""
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
        spent = _figure(part["grouping"]["by_people"][str(count)])
        yield Row(
            f"grouping, {count} people",
            f"{people[count]:.3f} ms",
            f"<= {limit} ms",
            spent.at_most(limit),
        )
    many, few = (part["grouping"]["by_people"][count] for count in ("50", "10"))
    growth = _quotient(many, few)
    yield Row(
        "grouping, 50 people against 10", f"{growth.median:.1f} x", "<= 5 x", growth.at_most(5)
    )
    worst = _figure(part["grouping"]["noise"])
    yield Row("grouping, noise everywhere", f"{worst.median:.2f} ms", "<= 3 ms", worst.at_most(3))
    for runtime, layers in part["layers"].items():
        whole = _sum(layers["milliseconds"], few)
        yield Row(
            f"decoding layers ({runtime}) and grouping of 10 people",
            f"{whole.median:.2f} ms",
            "<= 1 ms with the hop",
            whole.at_most(1),
        )


def _preprocessing(part: Record) -> Iterator[Row]:
    goals = {"640x480": 1.5, "1920x1080": 2.5, "3840x2160": 4.0}
    for name, case in part.items():
        ratio = _figure(case["ours"]["times_as_fast"])
        goal = goals[name.split()[0]]
        least = case["least"]["times_as_fast"]["median"]
        yield Row(
            f"decode and letterbox, {name}, against OpenCV",
            f"{_times(ratio)}; reading the entropy-coded data alone: {least:.1f} x",
            f">= {goal:g} x",
            ratio.at_least(goal),
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
    ready = Ratio.from_json(cold["ready_s"])
    yield Row("ready", f"{ready}, in s", "<= 4 s", ready.at_most(4))
    enough = Outcome.MET if cold["rss_mb"] <= 1200 else Outcome.MISSED
    yield Row("memory of all processes", f"{cold['rss_mb']} MB", "<= 1200 MB", enough)
    after = part["memory_after"]
    growth = 100 * (after["rss_mb"] / cold["rss_mb"] - 1)
    said = f"{growth:+.1f} % after {after['images']} images, with the first batches' buffers"
    yield Row("growth of memory", said, "< 2 % over 20,000 images: `pose-loadtest`", None)
    share = Ratio.from_json(part["share_of_ideal"])
    yield Row("ensemble against the in-process ideal", f"{share}", ">= 0.92", share.at_least(0.92))
    one = part["one_client"]
    added = Ratio.from_json(one["added_ms"])
    yield Row("one client: latency above the steps", f"{added}, in ms", "<= 2 ms", added.at_most(2))
    if "above_network_ms" in one:  # not in records before December 2026
        above = Ratio.from_json(one["above_network_ms"])
        said = f"{above}, in ms"
        yield Row("one client: latency above the network", said, "<= 4 ms at VGA", above.at_most(4))
    for protocol, curve in part["by_clients"].items():
        said = ", ".join(f"{step['clients']}: {step['images_per_s']:.0f}" for step in curve)
        yield Row(f"images/s by clients, {protocol}", said, "", None)
    overload = part["overload"]
    kept = Ratio.from_json(overload["share_of_peak"])
    yield Row(
        "throughput at 8 times the knee's clients",
        f"{kept} of the peak, p99 {overload['above']['latency_ms']['p99']} ms,"
        f" {overload['above']['refused']} refused",
        ">= 0.95",
        kept.at_least(0.95),
    )
    times = Ratio.from_json(part["client_side"]["times_as_fast"])
    yield Row(
        "ensemble against pre- and postprocessing in a Python client",
        f"{times}",
        ">= 1.3 x",
        times.at_least(1.3),
    )


def _rivals(part: Record) -> Iterator[Row]:
    """Every side's time and AP; then the goals, which are of each model's fastest side."""
    if "against" not in part:  # a record from before December 2026
        return
    for name, side in part["sides"].items():
        ratio = side["times_as_fast"]["median"]
        score = part["ap"].get(name)
        said = f"{side['milliseconds']['median']:.1f} ms, {ratio:.2f} x"
        said += f", AP {score['AP']:.3f}" if score else ""
        yield Row(f"one photo end to end: {name}", said, "", None)
    for rival, goals in _RIVAL_GOALS.items():
        theirs = _fastest(part["sides"], rival)
        for model, goal in goals.items():
            ours = _fastest(part["sides"], model)
            if theirs is None or ours is None:
                continue
            times = Ratio.from_json(part["against"][theirs][ours])
            said = f"{times} x"
            yield Row(f"{ours}, against {theirs}", said, f">= {goal:g} x", times.at_least(goal))
            above = part["ap"].get(ours, {}).get(f"above {theirs}")
            if above:
                said = f"{above['difference']:+.4f} ({above['low']:+.4f} to {above['high']:+.4f})"
                reached = Outcome.MET if above["difference"] >= 0 else Outcome.MISSED
                yield Row(f"AP of {ours}, above {theirs}", said, ">= 0 on these images", reached)


def _fastest(sides: Record, model: str) -> str | None:
    """The side of a model that takes least time; None: it was not measured."""
    own = [name for name in sides if name.startswith((f"{model}, ", f"{model} in "))]
    return min(own, key=lambda name: sides[name]["milliseconds"]["median"], default=None)


def _noise_words(noise: Record | None) -> str:
    if noise is None:
        return "The machine's noise was not recorded."
    said = f"A fixed job varied by {noise['spread']:.0%} meanwhile"
    return f"{said}: too noisy a machine for verdicts." if noise["too_noisy"] else f"{said}."


def _figure(spent: Record) -> Ratio:
    """A median with what bounds it: its middle 80 %, which is wider than the median's interval."""
    return Ratio(spent["median"], spent["p10"], spent["p90"], LEAST_PAIRS)


def _quotient(above: Record, below: Record) -> Ratio:
    """Of two figures that were not paired: the interval is the widest that they allow."""
    return Ratio(
        above["median"] / below["median"],
        above["p10"] / below["p90"],
        above["p90"] / below["p10"],
        LEAST_PAIRS,
    )


def _sum(one: Record, other: Record) -> Ratio:
    return _figure({name: one[name] + other[name] for name in ("median", "p10", "p90")})


def _times(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} x ({ratio.low:.2f} to {ratio.high:.2f})"
