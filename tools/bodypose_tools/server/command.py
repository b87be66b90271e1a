"""The command line of the embedded tritonserver: addresses, ports, closed APIs."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from .settings import Outside, Ports, ServerError

HOST = "127.0.0.1"
# Shared memory of one Python model: a batch of 8 network inputs takes 2.7 MB; it can grow.
_SHM_BYTES = 8 * 2**20
# Options of every server, embedded or in a container.
COMMON_OPTIONS = (
    "--disable-auto-complete-config",
    "--exit-on-error=true",
    "--strict-readiness=true",
)
# APIs with which a client could change the server; no client of this project needs them.
CLOSED_APIS = ("shared-memory", "model-repository", "trace", "logging")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def grpc_host(outside: Outside | None) -> str:
    """Address of the gRPC endpoint."""
    return HOST if outside is None else outside.host


def http_host(outside: Outside | None) -> str:
    """Address of the HTTP endpoint, which has no encryption: loopback when TLS is asked for."""
    return HOST if outside is None or outside.tls else outside.host


def metrics_host(outside: Outside | None) -> str:
    """Address of the metrics, always loopback: only this machine reads them."""
    return HOST


def free_ports(wanted: Ports, outside: Outside | None = None) -> Ports:
    """`wanted` with every 0 replaced by a free port.

    Raises:
        ServerError: a port asked for is taken or given twice, or the address is not one of this
            machine.
    """
    given = Counter(port for field in fields(wanted) if (port := getattr(wanted, field.name)))
    if twice := [port for port, count in given.items() if count > 1]:
        names = [f"--{each.name}-port" for each in fields(wanted)]
        raise ServerError(f"{', '.join(names)}: expected different ports, got {twice[0]} twice")
    hosts = {"http": http_host(outside), "grpc": grpc_host(outside), "metrics": HOST}
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as held:  # all at once, so that no port is given twice
        for field in fields(wanted):
            port, host = getattr(wanted, field.name), hosts[field.name]
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ServerError(
                        f"--host: expected an address of this machine, got {host}; `ip address`"
                        " lists them, and 0.0.0.0 stands for all"
                    ) from error
                at = "" if host == HOST else f" on {host}"
                raise ServerError(
                    f"port {port}: expected a free port{at} for {field.name}, got"
                    f" `{error.strerror}`; stop what listens there or pass --{field.name}-port"
                ) from error
            chosen[field.name] = listener.getsockname()[1]
    return Ports(**chosen)


def server_command(
    wheel: Path,
    models: Path,
    backends: Path,
    name: str,
    ports: Ports,
    closed_apis: Sequence[str],
    outside: Outside | None,
) -> list[str | Path]:
    """The command line that starts tritonserver.

    Args:
        wheel: from `find_wheel`.
        models: folder that the server follows, from `folder.prepare`.
        backends: folder with the Python backend.
        name: of this server, unique on this machine.
        ports: none of them 0.
        closed_apis: APIs that need a key, which is random and not kept.
        outside: listens beyond loopback; None: on loopback only.
    """
    closed = ",".join(closed_apis)
    tls = outside.tls.options() if outside and outside.tls else []
    return [
        wheel / "bin" / "tritonserver",
        f"--id={name}",
        f"--backend-directory={backends}",
        f"--model-repository={models}",
        *("--model-control-mode=poll", "--repository-poll-secs=1"),
        *(*COMMON_OPTIONS, "--exit-timeout-secs=3"),
        *(f"--http-address={http_host(outside)}", f"--http-port={ports.http}"),
        *(f"--grpc-address={grpc_host(outside)}", f"--grpc-port={ports.grpc}", *tls),
        *(f"--metrics-address={metrics_host(outside)}", f"--metrics-port={ports.metrics}"),
        f"--http-restricted-api={closed}:closed={secrets.token_hex(16)}",
        f"--grpc-restricted-protocol={closed}:closed={secrets.token_hex(16)}",
        *("--log-info=false", "--log-verbose=0"),
        *("--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"),
        f"--backend-config=python,shm-default-byte-size={_SHM_BYTES}",
        f"--backend-config=python,shm-growth-byte-size={_SHM_BYTES}",
        f"--backend-config=python,shm-region-prefix-name={name}",
    ]
