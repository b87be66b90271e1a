"""The orders to a generator process: where to send what, and each stretch of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bodypose_client.wire.access import Access, Tls

from .arrivals import Phase


class Loop(StrEnum):
    """Who decides when the next request starts."""

    CLOSED = "closed"  # a user, when the last one is answered
    OPEN = "open"  # a clock, whether or not the server is ready


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for a process's whole life."""

    url: str
    access: Access
    images: tuple[str, ...]  # paths
    weights: tuple[float, ...]  # how often each image is sent, relative to the others
    timeout_s: float
    connections: int  # HTTP requests in flight at most

    def to_json(self) -> dict[str, Any]:
        files = {name: file and str(file) for name, file in asdict(self.access.tls).items()}
        return asdict(self) | {"access": {"tls": files, "headers": dict(self.access.headers)}}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Setting:
        files = {name: file and Path(file) for name, file in raw["access"]["tls"].items()}
        access = Access(Tls(**files), raw["access"]["headers"])
        lists = {name: tuple(raw[name]) for name in ("images", "weights")}
        return cls(**{**raw, **lists, "access": access})


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
