"""Owns the embedded server: started, ready, kept alive, stopped with all it left behind.

It is tritonserver 2.51 (2024) and has published CVEs: it is for development, tests and demos, and
listens on loopback unless told otherwise.
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

_LOOK_EVERY_S = 0.25
# Until what was accepted is answered; a model that works for a tick or less meanwhile has nothing.
_DRAIN_TIMEOUT_S, _REST_S, _IDLE_TICKS = 5, 0.3, 1
# More restarts than that are no accident.
_MAX_RESTARTS, _PER_S = 3, 60.0


class EmbeddedServer:
    """A server whose every model is ready.

    Triton 2.51 does not restart a Python model whose process was killed, and goes on saying that
    it is ready. So the whole server is started anew, on the same ports: nothing of the dead one
    stays, and clients ask again.
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
        return f"{http_host(self.outside)}:{self.ports.http}"

    @property
    def grpc_url(self) -> str:
        return f"{grpc_host(self.outside)}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        return f"{metrics_host(self.outside)}:{self.ports.metrics}"

    @property
    def pid(self) -> int:
        """Of tritonserver; its process group holds the Python models too. A restart changes it."""
        return self._process.pid

    def model_processes(self) -> dict[str, int]:
        """The process of each Python model that lives; a restart changes them."""
        return self._process.models()

    def wait(self) -> None:
        """Wait for ever.

        Raises:
            ServerError: the server stopped although nobody asked it to.
        """
        self._ended.wait()
        raise ServerError(f"{self._failure}; run `tools serve` again")

    def open(self) -> None:
        """Raises: ServerError: a model does not load (and why)."""
        self._process.wait_until_ready(self.http_url, self.models, self._stopping)
        self._process.report_to(self._report)
        self._watch.start()

    def close(self) -> None:
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join()
        self._drain()
        self._process.stop()

    def _drain(self) -> None:
        """Let what was accepted be answered, while later requests are refused."""
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        if is_ready(self.http_url, ENSEMBLE):
            withdraw(self._folder, ENSEMBLE)
            while is_ready(self.http_url, ENSEMBLE) and time.monotonic() < deadline:
                time.sleep(0.05)
            done, done_before = self._process.work_done(), -_IDLE_TICKS
            while done > done_before + _IDLE_TICKS and time.monotonic() < deadline:
                time.sleep(_REST_S)
                done, done_before = self._process.work_done(), done

    def _keep_alive(self) -> None:
        dead: dict[int, str] = {}
        while not self._stopping.wait(_LOOK_EVERY_S):
            ended = self._process.exit_code is not None
            if ended and not self._process.was_taken_along:
                self._failure = (
                    "tritonserver: expected it to run until stopped, got exit code"
                    f" {self._process.exit_code} ({self._process.reason()})"
                )
                break
            dead_before, dead = dead, self._process.dead_models()
            # Seen twice: Triton collects in a moment what it has ended itself.
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
                f"{model}: expected its process to live, got its end {_MAX_RESTARTS + 1} times"
                f" within {_PER_S:g} s"
            )
        self._restarts.append(now)
        self._report(f"{model}: its process ended unasked; the server is started anew")
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
        ports: where to listen; any free ones by default.
        report: gets the running server's warnings and errors by the line, from another thread.
        closed_apis: in Triton's names; the client's own tests leave "shared-memory" open.
        outside: who else than this machine may come; None: nobody.
        updates: whether the server follows `tools promote`.

    Raises:
        ServerError: nothing to start, a port is taken, or a model does not load (and why).
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
    """Meanwhile another process waits for the end of this one, to end what it leaves behind."""
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
        guard.kill()  # not needed any more: the block has cleaned up
        guard.communicate()


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


def _models_in(repository: Path) -> tuple[str, ...]:
    models = tuple(sorted(config.parent.name for config in repository.glob("*/config.pbtxt")))
    if not models:
        raise ServerError(
            f"{repository}: expected a model repository, got none; run `tools build-repo`"
        )
    return models
