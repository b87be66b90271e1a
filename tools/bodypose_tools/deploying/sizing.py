"""From images/s and a 99th percentile to servers, cores and cards, by what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

SPARE: Final = 1  # a server that is replaced, killed or on a host that is gone


def servers_for(images_per_s: float, knee_images_per_s: float, share: float) -> int:
    """Servers for a load, one to spare.

    Args:
        images_per_s: at the busiest time.
        knee_images_per_s: what one server answers at its knee.
        share: of the knee at which the 99th percentile is as wanted, in 0..1.
    """
    return math.ceil(images_per_s / (share * knee_images_per_s)) + SPARE


def cores_beside_a_card(images_per_s: float, steps_ms: Mapping[str, float]) -> int:
    """Cores that decode and group as many images as a card's network answers.

    Args:
        images_per_s: of the network on the card.
        steps_ms: of one core for one image, of each step that is not the network.
    """
    return math.ceil(images_per_s * sum(steps_ms.values()) / 1000)


def sizing_table(
    loadtest: Mapping[str, Any], performance: Mapping[str, Any], images_per_s: float, card: float
) -> str:
    """The worked example: servers for a load at the shares that the load test measured, and a card.

    Args:
        loadtest: record of `pose-loadtest`.
        performance: record of `tools benchmark`.
        images_per_s: the load.
        card: images/s of the network on a card.
    """
    knee, cores = loadtest["knee"]["throughput"], loadtest["environment"]["cpus"]
    rows = [
        f"One server on {cores} cores ({loadtest['environment']['cpu']}) answers {knee:.1f}"
        " images/s at its knee ([loadtest.json](results/loadtest.json)). For"
        f" {images_per_s:.0f} images/s:",
        "",
        "| load of one server | p99 | servers | cores | in flight |",
        "|---|---|---|---|---|",
    ]
    for share, name in ((0.5, "at_50_percent"), (0.8, "at_80_percent")):
        latency = loadtest[name]["latency_ms"]
        servers = servers_for(images_per_s, knee, share)
        rows.append(
            f"| {share:.0%} of the knee | {latency['p99']:.0f} ms"
            f" | {servers - SPARE} + {SPARE} | {servers * cores}"
            f" | {images_per_s * latency['mean'] / 1000:.0f} |"
        )
    one = performance["serving"]["one_client"]["steps_ms"]
    steps = {name: one[name]["median"] for name in ("preprocess", "grouping")}
    rows += [
        "",
        f"Preprocessing takes {steps['preprocess']:.1f} ms of a core and grouping"
        f" {steps['grouping']:.1f} ms ([performance.json](results/performance.json)), so a card"
        f" whose network answers {card:,.0f} images/s needs {cores_beside_a_card(card, steps)}"
        f" cores beside it; for {images_per_s:.0f} images/s at 80 % of that"
        f" {servers_for(images_per_s, card, 0.8) - SPARE} + {SPARE} cards.",
    ]
    return "\n".join(rows) + "\n"
