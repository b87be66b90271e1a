"""The process of a known server: started with its behaviour, ended with the block."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bodypose_client.wire.address import Protocol

from .errors import NoServer
from .known_server import HOST, Behaviour
from .processes import ENDS_WITH_US, wait_or_kill

_STOP_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class KnownPorts:
    """Where a known server listens."""

    grpc: int
    http: int

    def url(self, protocol: Protocol) -> str:
        return f"{protocol}://{HOST}:{getattr(self, protocol.value)}"


@contextlib.contextmanager
def known_server(behaviour: Behaviour) -> Iterator[KnownPorts]:
    """A known server in a process of its own, on free loopback ports.

    Raises:
        NoServer: it did not start.
    """
    process = subprocess.Popen(
        [
            *ENDS_WITH_US,
            *(sys.executable, "-m", "bodypose_loadtest.known_server"),
            f"--service-ms={behaviour.service_s * 1000}",
            f"--capacity={behaviour.capacity}",
            f"--error-every={behaviour.error_every}",
            f"--stall-at-s={behaviour.stall_at_s}",
            f"--stall-s={behaviour.stall_s}",
        ],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise NoServer(f"known server: expected ports, got exit code {process.wait()}")
        yield KnownPorts(**json.loads(line))
    finally:
        process.terminate()
        wait_or_kill(process, _STOP_TIMEOUT_S)
