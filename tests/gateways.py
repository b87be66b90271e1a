"""Envoy and HAProxy with the files of deploy/gateway/, before servers of a test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "deploy" / "gateway"
_HTTP_PORTS, _GRPC_PORTS = ("8000", "8100", "8200"), ("8001", "8101", "8201")


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
def gateway(name: str, servers: Sequence[dict[str, str]], folder: Path) -> Iterator[str]:
    """The gateway `envoy` or `haproxy`, running; gives its host:port.

    Args:
        name: of the gateway.
        servers: `gRPC` and `HTTP` of each, host:port; three.
        folder: for its files.
    """
    program = {"envoy": envoy, "haproxy": haproxy}[name]()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    file = folder / {"envoy": "envoy.yaml", "haproxy": "haproxy.cfg"}[name]
    text = file.read_text().replace("0.0.0.0:8080", f"127.0.0.1:{port}")
    text = text.replace(
        "{address: 0.0.0.0, port_value: 8080}", f"{{address: 127.0.0.1, port_value: {port}}}"
    )
    for ports, kind in ((_HTTP_PORTS, "HTTP"), (_GRPC_PORTS, "gRPC")):
        for known, server in zip(ports, servers, strict=True):
            actual = server[kind].rsplit(":", 1)[1]
            for before in ("port_value: ", "127.0.0.1:", "port "):
                text = text.replace(f"{before}{known}", f"{before}{actual}")
    file.write_text(text)
    command = {
        "envoy": [
            program,
            "-c",
            file.name,
            "--use-dynamic-base-id",
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
