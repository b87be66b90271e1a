"""The orders to a generator process: where to send what, and each stretch of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from .arrivals import Phase


class Loop(StrEnum):
    """Who decides when the next request starts."""

    CLOSED = "closed"  # a user, when the last one is answered
    OPEN = "open"  # a clock, whether or not the server is ready


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for a process's whole life."""

    url: str
    images: tuple[str, ...]  # paths
    weights: tuple[float, ...]  # how often each image is sent, relative to the others
    timeout_s: float
    connections: int  # HTTP requests in flight at most

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Setting:
        return cls(**{**raw, "images": tuple(raw["images"]), "weights": tuple(raw["weights"])})


@dataclass(frozen=True, slots=True)
class Work:
    """One stretch of load without a pause; `start_at` is on the monotonic clock."""

    loop: Loop
    phases: tuple[Phase, ...]
    start_at: float
    seed: int
    out: str  # path of the records, .npy

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Work:
        phases = tuple(Phase(**phase) for phase in raw["phases"])
        return cls(**{**raw, "loop": Loop(raw["loop"]), "phases": phases})
