"""The pictures of docs/performance.md: cost by people, image size, batch and clients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bodypose_tools.files.figures import png_axes

Record = dict[str, Any]


def draw(record: Record, folder: Path) -> dict[str, Path]:
    """Draw one PNG into `folder` for each subject that was measured.

    Returns:
        The files, by caption.
    """
    drawers: dict[str, tuple[str, str, Callable[[Any, Record], None]]] = {
        "decoding": ("performance-people.png", "Grouping by people in the image", _people),
        "preprocessing": ("performance-sizes.png", "Preprocessing by image size", _sizes),
        "runtimes": ("performance-batch.png", "The network by batch", _batches),
        "serving": ("performance-clients.png", "Throughput and latency by clients", _clients),
        "rivals": ("performance-pareto.png", "AP by the time of one photo, end to end", _pareto),
    }
    drawn = {}
    for subject, (name, caption, fill) in drawers.items():
        if subject not in record or not _can_be_drawn(record[subject]):
            continue
        with png_axes(folder / name, (6, 3.6)) as axes:
            fill(axes, record[subject])
            axes.set_title(caption)
        drawn[caption] = folder / name
    return drawn


def _can_be_drawn(part: Record) -> bool:
    """Whether a part of a record has what its picture shows: rivals may be without AP."""
    return "sides" not in part or bool("against" in part and part["ap"])


def _people(axes: Any, part: Record) -> None:
    by_people = part["grouping"]["by_people"]
    people = [int(count) for count in by_people]
    axes.plot(people, [spent["median"] for spent in by_people.values()], "o-")
    axes.set(xlabel="people", ylabel="milliseconds", xlim=(0, None), ylim=(0, None))


def _sizes(axes: Any, part: Record) -> None:
    for offset, side in enumerate(("opencv", "ours", "least")):
        spent = [case[side]["milliseconds"]["median"] for case in part.values()]
        places = [place + 0.27 * (offset - 1) for place in range(len(part))]
        label = {"least": "entropy decoding alone", "opencv": "OpenCV"}.get(side, side)
        axes.barh(places, spent, height=0.25, label=label)
    axes.set_yticks(range(len(part)), list(part), fontsize=7)
    axes.set(xlabel="milliseconds", xscale="log")
    axes.legend()


def _batches(axes: Any, part: Record) -> None:
    by_batch = part["by_batch"]
    for name in next(iter(by_batch.values())):
        spent = [by_batch[batch][name]["milliseconds"]["median"] / int(batch) for batch in by_batch]
        axes.plot([int(batch) for batch in by_batch], spent, "o-", label=name)
    axes.set(xlabel="images in a batch", ylabel="milliseconds an image", ylim=(0, None))
    axes.legend()


def _clients(axes: Any, part: Record) -> None:
    for protocol, curve in part["by_clients"].items():
        rates = [step["images_per_s"] for step in curve]
        axes.plot(rates, [step["latency_ms"]["median"] for step in curve], "o-", label=protocol)
    knee = part["knee"]
    label = f"knee, clients: {knee['clients']}"
    axes.plot(knee["images_per_s"], knee["latency_ms"]["median"], "k*", ms=12, label=label)
    axes.set(xlabel="images/s", ylabel="median latency, ms", xlim=(0, None), ylim=(0, None))
    axes.legend()


def _pareto(axes: Any, part: Record) -> None:
    models: dict[str, list[tuple[float, float, str]]] = {}
    rivals = set()
    for name, score in part["ap"].items():  # such as "bodypose-s in INT8, openvino bf16"
        network, _, runtime = name.partition(", ")
        model, _, precision = network.partition(" in ")
        spent = part["sides"][name]["milliseconds"]["median"]
        models.setdefault(model, []).append((spent, score["AP"], precision or runtime.split()[-1]))
        if "above" not in " ".join(score):
            rivals.add(model)
    for model, points in models.items():
        spents, scores, precisions = zip(*sorted(points), strict=True)
        axes.plot(spents, scores, "ks:" if model in rivals else "o:", label=model)
        for *place, precision in zip(spents, scores, precisions, strict=True):
            axes.annotate(precision, place, (5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel="milliseconds", ylabel="AP", xlim=(0, None))
    axes.margins(y=0.12)
    axes.legend()
