"""The plan of a load test, and the server that it is about."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bodypose_client.wire.access import Access
from bodypose_client.wire.address import Address, Protocol

from .errors import PlanError
from .scenarios import Load, Scenario
from .server_process import running_server
from .slo import Slo


@dataclass(frozen=True, slots=True)
class LoadTestPlan:
    """What `pose-loadtest run` was asked to do; times in seconds."""

    scenario: Scenario
    load: Load
    duration_s: float = 30.0
    warm_up_s: float = 5.0
    repeats: int = 3
    url: str | None = None  # None: an embedded server of its own
    access: Access = field(default_factory=Access)  # to the server at `url`
    protocol: Protocol = Protocol.GRPC
    images: Path | None = None  # None: generated
    slo: Slo = field(default_factory=lambda: Slo({}))
    seed: int = 0
    processes: int = 1
    timeout_s: float = 30.0
    repository: Path | None = None  # for the embedded server; None: the shipped model's
    model: Path | None = None

    def __post_init__(self) -> None:
        """Raises `PlanError` and `AddressError` for what could only fail later."""
        if self.duration_s <= 0:
            raise PlanError(f"duration: expected more than 0 s, got {self.duration_s:g}")
        if self.url:
            self.access.check(Address.parse(self.url))

    def to_json(self) -> dict[str, Any]:
        """The settings that make two runs comparable; no path, no address, no secret."""
        return {
            "scenario": self.scenario,
            "loop": self.load.loop,
            "levels": self.load.levels,
            "duration_s": self.duration_s,
            "warm_up_s": self.warm_up_s,
            "repeats": self.repeats,
            "protocol": self.protocol,
            "images": self.images.name if self.images else "generated",
            "seed": self.seed,
            "processes": self.processes,
            "timeout_s": self.timeout_s,
            "server": "given" if self.url else "embedded",
        }


@dataclass(frozen=True, slots=True)
class Target:
    """The server under test; `pid` is known only of one that we started."""

    address: Address
    pid: int | None
    access: Access = field(default_factory=Access)


@contextlib.contextmanager
def target_of(plan: LoadTestPlan) -> Iterator[Target]:
    """The server at the plan's URL, or an embedded one for as long as the block lasts."""
    if plan.url:
        yield Target(Address.parse(plan.url), None, plan.access)
        return
    with running_server(plan.repository, plan.model) as server:
        yield Target(Address.parse(server.url(plan.protocol)), server.pid)
