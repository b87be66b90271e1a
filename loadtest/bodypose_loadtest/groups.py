"""Latency by kind of image: its size, and how many people the server finds in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_client.pose_client import PoseClient

from .images import LoadImage
from .plan import Target
from .records import Records
from .step_result import latencies

# From how many people on, and what the group is called.
_CROWDS = ((5, "5 and more people"), (2, "2 to 4 people"), (1, "1 person"), (0, "no people"))


def people_in(target: Target, images: Sequence[LoadImage]) -> list[int]:
    """How many people the server shows in each image."""
    access = target.access
    with PoseClient(str(target.address), tls=access.tls, headers=access.headers) as client:
        return [len(client.infer(image.path).above(DISPLAY_MIN_SCORE)) for image in images]


def by_group(
    images: Sequence[LoadImage], people: Sequence[int], parts: Sequence[Records], warm_up_s: float
) -> list[dict[str, Any]]:
    """Requests and latencies of each size and of each crowd that there is."""
    groups: dict[tuple[str, str], list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(("size", image.size), []).append(place)
    for at_least, crowd in reversed(_CROWDS):
        below = min((least for least, _ in _CROWDS if least > at_least), default=10**9)
        if places := [place for place, count in enumerate(people) if at_least <= count < below]:
            groups["people", crowd] = places
    counted = [part.intended_within(warm_up_s, np.inf) for part in parts]
    return [
        {"kind": kind, "group": group, **_one_group(places, counted)}
        for (kind, group), places in groups.items()
    ]


def _one_group(places: Sequence[int], parts: Sequence[Records]) -> Mapping[str, Any]:
    chosen = [Records(p.rows[np.isin(p.rows["image"], places)], p.errors) for p in parts]
    latency_ms = np.concatenate([part.latency_s[part.ok] * 1000 for part in chosen])
    requests = sum(len(part.rows) for part in chosen)
    return {"requests": requests, "latency_ms": latencies(latency_ms)}
