"""The generator's headroom: how much faster it is than the server it is for.

Both servers run on this machine's cores, beside the generator, and are asked the same way. The
instant one is written in Python: what is measured is a lower bound of what the generator can do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bodypose_client.wire.address import Address, Protocol

from .known_process import known_server
from .known_server import Behaviour
from .machine import environment
from .orders import Loop
from .plan import LoadTestPlan, Target
from .run import run_on
from .scenarios import Load, Scenario
from .server_process import running_server

MIN_HEADROOM = 3.0
SCHEMA = "bodypose-generator-headroom/1"
_USERS = 8
_WARM_UP_S = 2.0


def measure_headroom(
    seconds: float, images: Path | None = None, repository: Path | None = None
) -> dict[str, Any]:
    """Answers/s of an instant server and of the embedded one, each with 8 users, and the ratio."""
    plan = LoadTestPlan(
        Scenario.STEADY,
        Load(Loop.CLOSED, (_USERS,)),
        duration_s=seconds,
        warm_up_s=_WARM_UP_S,
        repeats=1,
        images=images,
    )
    protocols = {}
    with running_server(repository) as embedded, known_server(Behaviour(0.0, 1)) as instant:
        for protocol in Protocol:
            asked = replace(plan, protocol=protocol)
            rates = {
                "instant_server": _rate(asked, instant.url(protocol)),
                "embedded_server": _rate(asked, embedded.url(protocol)),
            }
            ratio = rates["instant_server"] / rates["embedded_server"]
            protocols[protocol.value] = {**rates, "ratio": ratio}
    return {
        "schema": SCHEMA,
        "users": _USERS,
        "seconds": seconds,
        "environment": environment(),
        "protocols": protocols,
    }


def _rate(plan: LoadTestPlan, url: str) -> float:
    # Whether the generator was the limit does not matter here: against the instant server it is.
    outcome = run_on(Target(Address.parse(url), None), plan, say=lambda _: None)
    return float(outcome.report["steps"][0]["throughput"])
