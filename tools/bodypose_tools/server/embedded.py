"""The embedded server: started, supervised, and stopped with its processes, memory and files.

It is tritonserver 2.51 (2024), which has published CVEs: it is for development, tests and demos,
and listens on loopback by default.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bodypose_tools.repository.lock import serving
from bodypose_tools.repository.pbtxt import ENSEMBLE

from . import guard as server_guard
from .command import CLOSED_APIS, free_ports, grpc_host, http_host, metrics_host, server_command
from .folder import prepare, withdraw
from .process import Report, TritonProcess, ignore
from .readiness import is_ready
from .settings import Outside, Ports, ServerError, Updates
from .wheel import copy_backend, find_wheel, server_environment

_CHECK_EVERY_S = 0.25
# Accepted requests are answered when no model has used more than a tick in a pause.
_DRAIN_TIMEOUT_S, _PAUSE_S, _IDLE_TICKS = 5, 0.3, 1
# More restarts in this time point to a defect, and the server stops.
_MAX_RESTARTS, _PER_S = 3, 60.0


class EmbeddedServer:
    """A server with all models ready, restarted when one of its Python models is killed.

    Triton 2.51 does not restart a Python model whose process was killed, and still reports it as
    ready. So the whole server is restarted on the same ports; clients ask again.
    """

    def __init__(
        self,
        ports: Ports,
        models: tuple[str, ...],
        outside: Outside | None,
        start: Callable[[], TritonProcess],
        report: Report,
        folder: Path,
    ) -> None:
        self.ports = ports
        self.models = models
        self.outside = outside
        self._start = start
        self._report = report
        self._folder = folder
        self._restarts: deque[float] = deque(maxlen=_MAX_RESTARTS)
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._failure = ""
        self._process = start()
        self._watch = threading.Thread(target=self._keep_alive, daemon=True)

    @property
    def http_url(self) -> str:
        """`host:port` of the HTTP endpoint."""
        return f"{http_host(self.outside)}:{self.ports.http}"

    @property
    def grpc_url(self) -> str:
        """`host:port` of the gRPC endpoint."""
        return f"{grpc_host(self.outside)}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """`host:port` of the metrics."""
        return f"{metrics_host(self.outside)}:{self.ports.metrics}"

    @property
    def pid(self) -> int:
        """Process of tritonserver, whose group also has the Python models. A restart changes it."""
        return self._process.pid

    def model_processes(self) -> dict[str, int]:
        """The running process of each Python model, by name. A restart changes them."""
        return self._process.models()

    def wait(self) -> None:
        """Wait until the server fails.

        Raises:
            ServerError: the server stopped without being told to; the only way in which this ends.
        """
        self._ended.wait()
        raise ServerError(f"{self._failure}; run `tools serve` again")

    def open(self) -> None:
        """Wait until every model is ready, and supervise from then on.

        Raises:
            ServerError: a model does not load; the message says why.
        """
        self._process.wait_until_ready(self.http_url, self.models, self._stopping)
        self._process.report_to(self._report)
        self._watch.start()

    def close(self) -> None:
        """Answer what was accepted, then end the server and its models."""
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join()
        self._drain()
        self._process.stop()

    def _drain(self) -> None:
        """Refuse new requests, and wait until the accepted ones are answered."""
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        if is_ready(self.http_url, ENSEMBLE):
            withdraw(self._folder, ENSEMBLE)
            while is_ready(self.http_url, ENSEMBLE) and time.monotonic() < deadline:
                time.sleep(0.05)
            done, done_before = self._process.work_done(), -_IDLE_TICKS
            while done > done_before + _IDLE_TICKS and time.monotonic() < deadline:
                time.sleep(_PAUSE_S)
                done, done_before = self._process.work_done(), done

    def _keep_alive(self) -> None:
        dead: dict[int, str] = {}
        while not self._stopping.wait(_CHECK_EVERY_S):
            ended = self._process.exit_code is not None
            if ended and not self._process.was_taken_along:
                self._failure = (
                    "tritonserver: expected it to run until stopped, got exit code"
                    f" {self._process.exit_code} ({self._process.reason()})"
                )
                break
            dead_before, dead = dead, self._process.dead_models()
            # Seen in two checks, because Triton reaps within one what it has ended itself.
            killed = dead_before.keys() & dead.keys()
            if ended or killed:
                try:
                    self._restart("tritonserver" if ended else dead[min(killed)])
                except ServerError as error:
                    self._failure = str(error)
                    break
        self._ended.set()

    def _restart(self, model: str) -> None:
        now = time.monotonic()
        if len(self._restarts) == _MAX_RESTARTS and now - self._restarts[0] < _PER_S:
            raise ServerError(
                f"{model}: expected its process to run, got {_MAX_RESTARTS + 1} ends of it"
                f" within {_PER_S:g} s"
            )
        self._restarts.append(now)
        self._report(f"{model}: its process was killed or crashed; the server is restarted")
        self._process.kill()
        self._process = self._start()
        self._process.wait_until_ready(self.http_url, self.models, self._stopping)
        self._process.report_to(self._report)
        self._report(f"{model}: ready again after {time.monotonic() - now:.1f} s")


@contextlib.contextmanager
def embedded_server(
    repository: Path,
    ports: Ports | None = None,
    report: Report = ignore,
    closed_apis: Sequence[str] = CLOSED_APIS,
    outside: Outside | None = None,
    updates: Updates = Updates.NONE,
) -> Iterator[EmbeddedServer]:
    """A running server with every model of `repository` loaded; stopped when the block ends.

    Args:
        repository: from `tools build-repo`.
        ports: to listen on; None: any free ones.
        report: gets the running server's warnings and errors by the line, from another thread.
        closed_apis: in Triton's names; the client's own tests leave "shared-memory" open.
        outside: address beyond plain loopback; None: loopback only.
        updates: whether the server follows `tools promote`.

    Raises:
        ServerError: the repository or the wheel is missing, a port is taken, or a model does not
            load; the message says which and why.
    """
    models = _models_in(repository)
    wheel = find_wheel()
    ports = free_ports(ports or Ports(), outside)
    name = f"bodypose_{os.getpid()}_{secrets.token_hex(4)}"
    followed = serving(repository) if updates is Updates.POLL else contextlib.nullcontext()
    with (
        followed,
        tempfile.TemporaryDirectory(prefix="bodypose-triton-") as work,
        _guarded(name, Path(work)),
    ):
        folder, backends = Path(work) / "models", Path(work) / "backends"
        prepare(folder, repository, updates)
        copy_backend(wheel, backends)
        environment = server_environment(wheel) | {"TMPDIR": work}
        command = server_command(wheel, folder, backends, name, ports, closed_apis, outside)

        def start() -> TritonProcess:
            shown = (str(folder), str(repository.resolve()))
            return TritonProcess(command, environment, name, shown)

        server = EmbeddedServer(ports, models, outside, start, report, folder)
        try:
            server.open()
            yield server
        finally:
            server.close()


@contextlib.contextmanager
def _guarded(name: str, folder: Path) -> Iterator[None]:
    """Inside, another process waits for the end of this one, and then cleans up after it."""
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", server_guard.__file__, name, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()  # the block has cleaned up itself
        guard.communicate()


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM end the block quietly; a second signal is ignored."""

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


def _models_in(repository: Path) -> tuple[str, ...]:
    models = tuple(sorted(config.parent.name for config in repository.glob("*/config.pbtxt")))
    if not models:
        raise ServerError(
            f"{repository}: expected a model repository, got none; run `tools build-repo`"
        )
    return models
