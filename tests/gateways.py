"""Envoy and HAProxy with the files of deploy/gateway/, before servers of a test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bodypose_tools.deploying.files import write_gateway
from bodypose_tools.deploying.settings import GATEWAY_MIB, REQUESTS_PER_S, Access
from bodypose_tools.deploying.values import Gateway, Server
from tests.processes import free_port


def envoy() -> str:
    program = Path(sys.executable).with_name("envoy")
    if not program.is_file():
        pytest.skip("needs Envoy: run `pip install -e '.[dev]'`")
    return str(program)


def haproxy() -> str:
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    if not Path(program).is_file():
        pytest.skip("needs HAProxy: run `apt-get install haproxy`")
    return program


@contextmanager
def gateway(
    name: str,
    servers: Sequence[dict[str, str]],
    repository: Path,
    folder: Path,
    access: Access = Access.OPEN,
    requests_per_s: int = REQUESTS_PER_S,
    memory_mib: int = GATEWAY_MIB,
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """The gateway `envoy` or `haproxy`, running; gives its host:port.

    Args:
        name: of the gateway.
        servers: `gRPC` and `HTTP` of each, host:port.
        repository: that they serve, whose limits the gateway holds.
        folder: for its files.
        access: who may ask.
        requests_per_s: of one token.
        memory_mib: of Envoy.
        prepare: adds certificate and tokens to the files.
    """
    program = {"envoy": envoy, "haproxy": haproxy}[name]()
    port = free_port()
    behind = tuple(_server(each) for each in servers)
    told = Gateway(behind, access, requests_per_s, "127.0.0.1", port, memory_mib)
    write_gateway(repository, folder, told)
    prepare()
    file = folder / {"envoy": "envoy.yaml", "haproxy": "haproxy.cfg"}[name]
    command = {
        "envoy": [
            program,
            "-c",
            file.name,
            "--disable-hot-restart",
            "--log-level",
            "error",
            "--concurrency",
            "1",
        ],
        "haproxy": [program, "-db", "-f", file.name],
    }[name]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log)
    try:
        _wait_until_listening(port, process, folder / "log")
        time.sleep(2.5)  # until it knows its servers
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _server(urls: dict[str, str]) -> Server:
    http, grpc = (int(urls[kind].rsplit(":", 1)[1]) for kind in ("HTTP", "gRPC"))
    return Server("127.0.0.1", http, grpc)


def _wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return
