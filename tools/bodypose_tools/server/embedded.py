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
from pose_runtime.admission import Admission, places_file

from . import guard as server_guard
from .bounds import bounded, bounds_of
from .command import CLOSED_APIS, free_ports, grpc_host, http_host, metrics_host, server_command
from .folder import prepare, turn_unready
from .process import Report, TritonProcess, ignore
from .pulse import Pulse, is_hung
from .readiness import is_server_ready
from .settings import Outside, Ports, ServerError, Updates
from .wheel import copy_backend, find_wheel, server_environment

_CHECK_EVERY_S = 0.25
# Triton looks at its folder every second.
_UNREADY_TIMEOUT_S = 3
# Until what was accepted is answered.
_LAST_ANSWERS_S = 5
_HUNG_S = 1.0
# More restarts in this time point to a defect, and the server stops. The second one has a pause
# before it, which doubles with each more.
_MAX_RESTARTS, _PER_S, _FIRST_PAUSE_S = 3, 60.0, 1.0


class Guard:
    """Another process that waits for the end of this one, and then cleans up after it."""

    def __init__(self, name: str, folder: Path) -> None:
        self._command = [sys.executable, "-I", "-S", server_guard.__file__, name, str(folder)]
        self._process = self._started()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # the block has cleaned up itself
        self._process.communicate()

    def keep(self) -> None:
        """Start it again if it was killed."""
        if self._process.poll() is not None:
            self._process.communicate()
            self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


class Terminated(KeyboardInterrupt):
    """SIGTERM, which the server answers with a drain; Ctrl-C does not wait."""


class EmbeddedServer:
    """A server with all models ready, restarted when it or one of its models breaks.

    Triton 2.51 does not restart a Python model whose process was killed or hangs, and still reports
    it as ready. So the whole server is restarted on the same ports, as after a crash of its own;
    clients ask again.
    """

    def __init__(
        self,
        ports: Ports,
        models: tuple[str, ...],
        outside: Outside | None,
        start: Callable[[], TritonProcess],
        report: Report,
        folder: Path,
        guard: Guard,
    ) -> None:
        self.ports = ports
        self.models = models
        self.outside = outside
        self._start = start
        self._report = report
        self._folder = folder
        self._guard = guard
        self._restarts: deque[float] = deque(maxlen=_MAX_RESTARTS)
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self._failure = ""
        self._process = start()
        self._pulse: Pulse | None = None
        self._dead: dict[int, str] = {}
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

    @property
    def places(self) -> Admission:
        """Of the images under way. A restart changes it."""
        return Admission(self._folder.parent / places_file(self.pid))

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
        self._get_ready()
        self._watch.start()

    def drain(self, seconds: float) -> None:
        """Report the server as not ready, and answer requests for so many seconds more."""
        self._stop_watching()
        if self._process.exit_code is not None:
            return
        turn_unready(self._folder)
        deadline = time.monotonic() + _UNREADY_TIMEOUT_S
        while is_server_ready(self.http_url) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(seconds)

    def close(self) -> None:
        """Answer what was accepted, refuse the rest, then end the server and its models."""
        self._stop_watching()
        if self._process.exit_code is None and self._pulse:
            places = self.places
            places.close()
            deadline = time.monotonic() + _LAST_ANSWERS_S
            while places.count() and time.monotonic() < deadline:
                time.sleep(0.02)
        self._process.stop()
        self._stopped.set()

    def _stop_watching(self) -> None:
        self._stopping.set()
        if self._watch.is_alive():
            self._ended.wait()
        if self._pulse:
            self._pulse.close()

    def _get_ready(self) -> None:
        self._process.wait_until_ready(self.http_url, self.models, self._stopping)
        if not self._stopping.is_set():
            self._process.report_to(self._report)
            python_models = tuple(self._process.models())
            self._pulse = Pulse(
                self.http_url, self._folder, python_models, self.places, self._process.computed_s
            )

    def _keep_alive(self) -> None:
        while not self._stopping.wait(_CHECK_EVERY_S):
            self._guard.keep()
            if fault := self._fault():
                try:
                    self._restart(*fault)
                except ServerError as error:
                    self._failure = str(error)
                    break
        self._ended.set()
        self._stopped.wait()  # the system ends tritonserver with the thread that started it

    def _fault(self) -> tuple[str, str] | None:
        """Who does not work any more, and how that shows."""
        if self._process.exit_code is not None:
            return "tritonserver", f"its process was killed or crashed ({self._process.end()})"
        dead_before, self._dead = self._dead, self._process.dead_models()
        # Seen in two checks, because Triton reaps within one what it has ended itself.
        if killed := dead_before.keys() & self._dead.keys():
            return self._dead[min(killed)], "its process was killed or crashed"
        if self._pulse and (model := self._pulse.silent):
            model = "tritonserver" if is_hung(self.http_url, _HUNG_S) else model
            return model, "its process hangs"
        return None

    def _restart(self, who: str, fault: str) -> None:
        now = time.monotonic()
        while self._restarts and now - self._restarts[0] > _PER_S:
            self._restarts.popleft()
        if len(self._restarts) == _MAX_RESTARTS:
            raise ServerError(
                f"{who}: expected its process to run, got {_MAX_RESTARTS + 1} ends of it"
                f" within {_PER_S:g} s; the last: {fault}"
            )
        pause_s = _FIRST_PAUSE_S * 2 ** (len(self._restarts) - 1) if self._restarts else 0
        self._restarts.append(now)
        self._report(f"{who}: {fault}; the server is restarted")
        if self._pulse:
            self._pulse.close()
        self._process.kill()
        self._dead = {}
        if self._stopping.wait(pause_s):
            return
        self._process, self._pulse = self._start(), None
        try:
            self._get_ready()
        except ServerError as error:
            self._restart("tritonserver", f"it did not start ({error})")
        else:
            self._report(f"{who}: ready again after {time.monotonic() - now:.1f} s")


@contextlib.contextmanager
def embedded_server(
    repository: Path,
    ports: Ports | None = None,
    report: Report = ignore,
    closed_apis: Sequence[str] = CLOSED_APIS,
    outside: Outside | None = None,
    updates: Updates = Updates.NONE,
    drain_s: float = 0,
) -> Iterator[EmbeddedServer]:
    """A running server with every model of `repository` loaded; stopped when the block ends.

    Args:
        repository: from `tools build-repo`.
        ports: to listen on; None: any free ones.
        report: gets the running server's warnings and errors by the line, from another thread.
        closed_apis: in Triton's names; the client's own tests leave "shared-memory" open.
        outside: address beyond plain loopback; None: loopback only.
        updates: whether the server follows `tools promote`.
        drain_s: how long it goes on answering, not ready, when `Terminated` ends the block.

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
        Guard(name, Path(work)) as guard,
    ):
        folder, backends = Path(work) / "models", Path(work) / "backends"
        prepare(folder, repository, updates)
        copy_backend(wheel, backends)
        environment = server_environment(wheel) | {"TMPDIR": work}
        command = bounded(
            server_command(wheel, folder, backends, name, ports, closed_apis, outside),
            bounds_of(repository),
        )

        def start() -> TritonProcess:
            shown = (str(folder), str(repository.resolve()))
            return TritonProcess(command, environment, name, shown)

        server = EmbeddedServer(ports, models, outside, start, report, folder, guard)
        try:
            server.open()
            yield server
        except Terminated:
            server.drain(drain_s)
            raise
        finally:
            server.close()


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM end the block quietly; a second signal is ignored."""

    def interrupt(number: int, frame: object) -> None:
        for stop_signal in previous:
            signal.signal(stop_signal, signal.SIG_IGN)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

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
