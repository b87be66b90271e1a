"""Owns the embedded server: the tritonserver inside the nvidia-pytriton wheel, on loopback.

That server is 2.51 (2024) and has published CVEs: it is for development, tests and demos, and no
address but loopback is offered.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

from .triton_wheel import ServerError, copy_backend, find_wheel, server_environment

HOST = "127.0.0.1"
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 10
_SHARED_MEMORY = Path("/dev/shm")
# Shared memory of one Python model: a batch of 8 network inputs takes 2.7 MB; it grows on demand.
_SHM_BYTES = 8 * 2**20
# APIs that could change the server from outside; nobody here needs them.
CLOSED_APIS = ("shared-memory", "model-repository", "trace", "logging")
_ABOUT_MISSING_GPU = ("CUDA", "Cuda", "pinned", "DCGM", "NVML")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the server listens; 0 means any free port."""

    http: int = 0
    grpc: int = 0
    metrics: int = 0


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server whose every model is ready."""

    ports: Ports
    models: tuple[str, ...]
    _process: subprocess.Popen[str]
    _log: _Log

    @property
    def http_url(self) -> str:
        return f"{HOST}:{self.ports.http}"

    @property
    def grpc_url(self) -> str:
        return f"{HOST}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        return f"{HOST}:{self.ports.metrics}"

    @property
    def pid(self) -> int:
        """Of tritonserver; its process group holds the Python models too."""
        return self._process.pid

    def wait(self) -> None:
        """Wait for ever.

        Raises:
            ServerError: the server stopped although nobody asked it to.
        """
        code = self._process.wait()
        raise ServerError(
            f"tritonserver: expected it to run until stopped, got exit code {code}"
            f" ({self._log.reason()}); run `tools serve` again"
        )


def ignore(line: str) -> None:
    """The default receiver of the server's warnings and errors."""


@contextlib.contextmanager
def embedded_server(
    repository: Path,
    ports: Ports = Ports(),
    report: Callable[[str], None] = ignore,
    closed_apis: Sequence[str] = CLOSED_APIS,
) -> Iterator[EmbeddedServer]:
    """A running server with every model of `repository` loaded; stopped when the block ends.

    Args:
        repository: from `tools build-repo`.
        ports: where to listen.
        report: gets the running server's warnings and errors by the line, from another thread.
        closed_apis: in Triton's names; the client's own tests leave "shared-memory" open.

    Raises:
        ServerError: nothing to start, a port is taken, or a model does not load (and why).
    """
    models = _models_in(repository)
    wheel = find_wheel()
    environment = server_environment(wheel)
    ports = _free_ports(ports)
    name = f"bodypose_{os.getpid()}_{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="bodypose-triton-") as folder:
        copy_backend(wheel, Path(folder))
        command = _command(wheel, repository, Path(folder), ports, name, closed_apis)
        process = _start(command, environment)
        log = _Log(process)
        try:
            _wait_until_ready(process, log, ports, models)
            log.report = report
            yield EmbeddedServer(ports, models, process, log)
        finally:
            log.report = ignore
            _stop(process, name)
            log.thread.join()


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM end the block quietly; a second one does not cut its clean-up."""

    def interrupt(number: int, frame: object) -> None:
        for stop_signal in previous:
            signal.signal(stop_signal, signal.SIG_IGN)
        raise KeyboardInterrupt

    stop_signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, interrupt) for number in stop_signals}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Log:
    """The server's output, read by a thread: warnings and errors are reported, the end is kept."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.report: Callable[[str], None] = ignore  # while it starts and stops
        self._lines: deque[str] = deque(maxlen=200)
        self.thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self.thread.start()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                if any(word in line for word in _ABOUT_MISSING_GPU):
                    continue
                self._lines.append(line.rstrip())
                if re.match(r"[WE]\d{4} ", line):
                    self.report(line.rstrip())

    def reason(self) -> str:
        """Why the server gave up, in one line."""
        return reason_in_log(list(self._lines))


def reason_in_log(lines: Sequence[str]) -> str:
    """The one line of a server's log that says why a model, or the server, did not start."""
    for line in lines:
        if found := re.search(
            r"failed to load '(\S+)' version \d+: (?:[A-Z][a-z ]+: )?(.+)\"", line
        ):
            why = found[2].split(r"\n\nAt:")[0].replace(r"\n", " ").replace(r"\"", '"').strip()
            why = re.sub(r"Exception from \S+: ", "", why)  # OpenVINO's own source lines
            return f"{found[1]} does not load: {why}"
    errors = [line for line in lines if re.match(r"E\d{4} ", line)] or list(lines)
    return errors[0].split('] "')[-1].rstrip('"') if errors else "it said nothing"


def _models_in(repository: Path) -> tuple[str, ...]:
    models = tuple(sorted(config.parent.name for config in repository.glob("*/config.pbtxt")))
    if not models:
        raise ServerError(
            f"{repository}: expected a model repository, got none; run `tools build-repo`"
        )
    return models


def _free_ports(wanted: Ports) -> Ports:
    """`wanted` with every 0 replaced by a free port.

    Raises:
        ServerError: a port that was asked for is taken.
    """
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as held:  # all at once, so that no port is given twice
        for field in fields(wanted):
            port = getattr(wanted, field.name)
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError as error:
                raise ServerError(
                    f"port {port}: expected a free port for {field.name}, got"
                    f" `{error.strerror}`; stop what listens there or pass --{field.name}-port"
                ) from error
            chosen[field.name] = listener.getsockname()[1]
    return Ports(**chosen)


def _command(
    wheel: Path,
    repository: Path,
    backends: Path,
    ports: Ports,
    name: str,
    closed_apis: Sequence[str],
) -> list[str | Path]:
    closed = ",".join(closed_apis)
    return [
        wheel / "bin" / "tritonserver",
        f"--id={name}",
        f"--model-repository={repository.resolve()}",
        f"--backend-directory={backends}",
        *("--model-control-mode=none", "--disable-auto-complete-config"),
        *("--exit-on-error=true", "--strict-readiness=true", "--exit-timeout-secs=3"),
        *(f"--http-address={HOST}", f"--http-port={ports.http}"),
        *(f"--grpc-address={HOST}", f"--grpc-port={ports.grpc}"),
        *(f"--metrics-address={HOST}", f"--metrics-port={ports.metrics}"),
        f"--http-restricted-api={closed}:closed={secrets.token_hex(16)}",
        f"--grpc-restricted-protocol={closed}:closed={secrets.token_hex(16)}",
        *("--log-info=false", "--log-verbose=0"),
        *("--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"),
        f"--backend-config=python,shm-default-byte-size={_SHM_BYTES}",
        f"--backend-config=python,shm-growth-byte-size={_SHM_BYTES}",
        f"--backend-config=python,shm-region-prefix-name={name}",
    ]


def _start(command: list[str | Path], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C in the terminal is ours to handle; one group to end
    )


def _wait_until_ready(
    process: subprocess.Popen[str], log: _Log, ports: Ports, models: Sequence[str]
) -> None:
    waiting = list(models)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while waiting:
        if process.poll() is not None:
            log.thread.join()
            raise ServerError(log.reason())
        if time.monotonic() > deadline:
            raise ServerError(
                f"server: expected every model ready within {_START_TIMEOUT_S} s, still waiting"
                f" for {', '.join(waiting)} ({log.reason()})"
            )
        if _is_ready(ports.http, waiting[0]):
            waiting.pop(0)
        else:
            time.sleep(0.05)


def _is_ready(http_port: int, model: str) -> bool:
    connection = http.client.HTTPConnection(HOST, http_port, timeout=5)
    try:
        connection.request("GET", f"/v2/models/{model}/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[str], name: str) -> None:
    """End the server; whatever of its group or shared memory is left after that is removed."""
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for region in _SHARED_MEMORY.glob(f"{name}*"):
            region.unlink(missing_ok=True)
