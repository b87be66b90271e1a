"""One run of tritonserver: its process, its log, its end, its models that were killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from . import guard as server_guard
from .folder import NEVER_READY
from .readiness import is_ready
from .settings import ServerError

_START_TIMEOUT_S = 600  # the first start on a GPU compiles the network for minutes
_STOP_TIMEOUT_S = 2
_ABOUT_MISSING_GPU = ("CUDA", "Cuda", "pinned", "DCGM", "NVML")

Report = Callable[[str], None]
_LAST_LINES_S = 1.0
# The system asks tritonserver to end (SIGTERM) when the thread that started it ends, also by
# `kill -9` (prctl(2): PR_SET_PDEATHSIG, which an exec keeps).
_ENDS_WITH_US = (
    *(sys.executable, "-I", "-S", "-c"),
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])",
)


def ignore(line: str) -> None:
    """The default receiver of warnings and errors: drops them."""


class TritonProcess:
    """A tritonserver that starts on construction; `stop` or `kill` must follow.

    Args:
        command: from `server_command`.
        environment: from `server_environment`.
        name: the server's id, which begins the names of its shared memory.
        shown: a path in the server's log, and the path that a person reads instead.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        environment: dict[str, str],
        name: str,
        shown: tuple[str, str],
    ) -> None:
        self._name = name
        self._models: dict[int, str] = {}  # by the process that runs them
        self._process = subprocess.Popen(
            [*_ENDS_WITH_US, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in the terminal is ours to handle; one group to end
        )
        self._log = _Log(self._process, shown)

    @property
    def pid(self) -> int:
        """Number of the process, which leads a group with its models."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def end(self) -> str:
        """The signal or exit code that an ended server had, and its last error if it is recent."""
        code = self.exit_code or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ", ".join([how, *self._log.last_errors()])

    def report_to(self, report: Report) -> None:
        """Send warnings and errors to `report` from now on, from another thread."""
        self._log.report = report

    def wait_until_ready(self, url: str, models: Sequence[str], cancelled: threading.Event) -> None:
        """Wait until every model is ready, or `cancelled` is set.

        Raises:
            ServerError: the server ended, or took too long.
        """
        waiting = list(models)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while waiting and not cancelled.is_set():
            if self.exit_code is not None:
                self._log.thread.join()
                raise ServerError(self._log.reason())
            if time.monotonic() > deadline:
                raise ServerError(
                    f"server: expected every model ready within {_START_TIMEOUT_S} s, still"
                    f" waiting for {', '.join(waiting)} ({self._log.reason()})"
                )
            if is_ready(url, waiting[0]):
                waiting.pop(0)
            else:
                time.sleep(0.05)
        self.dead_models()  # learns which process runs which model, before one can be killed

    def dead_models(self) -> dict[int, str]:
        """Python models whose process was killed or crashed, by process; Triton does not notice."""
        dead = {}
        for pid, state, _ in children_of(self.pid, server_guard.STUB):
            if state == "Z":
                dead[pid] = self._models.get(pid, "a model")
            elif pid not in self._models:
                self._models[pid] = _model_of(pid)
        return dead

    def models(self) -> dict[str, int]:
        """The process that runs each Python model."""
        return {
            _model_of(pid): pid
            for pid, state, _ in children_of(self.pid, server_guard.STUB)
            if state != "Z"
        }

    def computed_s(self, model: str) -> float:
        """Processor time that a Python model's process has used, in seconds."""
        pid = self.models().get(model)
        ticks = (used for each, _, used in children_of(self.pid, server_guard.STUB) if each == pid)
        return sum(ticks) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it when it has answered accepted requests, then remove whatever is left.

        Triton's own stop unloads its models first and reports them as unknown meanwhile. No client
        retries after such an answer; after a closed connection clients do. The Python models notice
        that the server has ended, and end.
        """
        self.report_to(ignore)
        self._process.kill()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while _in_group(self.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """End it at once, with its models and shared memory."""
        self.report_to(ignore)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        server_guard.remove_shared_memory(self._name)
        self._log.thread.join()


class _Log:
    """The server's output, read by a thread: reports warnings and errors, keeps the last lines."""

    def __init__(self, process: subprocess.Popen[str], shown: tuple[str, str]) -> None:
        self._shown = shown
        self.report: Report = ignore  # nothing is reported while it starts and stops
        self._lines: deque[str] = deque(maxlen=200)
        self._last_error = ("", 0.0)  # the last error, and when it came
        self.thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self.thread.start()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                if any(word in line for word in _ABOUT_MISSING_GPU):
                    continue
                line = line.rstrip().replace(*self._shown)
                self._lines.append(line)
                if re.match(r"E\d{4} ", line):
                    self._last_error = (line, time.monotonic())
                if re.match(r"[WE]\d{4} ", line) and NEVER_READY not in line:
                    self.report(line)

    def last_errors(self) -> list[str]:
        """The error that an ended server logged just before its end, if there is one."""
        self.thread.join(_LAST_LINES_S)  # with a limit, because its models may keep the pipe open
        line, at = self._last_error
        fresh = time.monotonic() - at < 2 * _LAST_LINES_S
        return [_words(line)] if line and fresh else []

    def reason(self) -> str:
        """Why the server ended, in one line."""
        return reason_in_log(list(self._lines))


def reason_in_log(lines: Sequence[str]) -> str:
    """The reason in a server's log why a model, or the server, did not start, in one line."""
    for line in lines:
        if found := re.search(
            r"failed to load '(\S+)' version \d+: (?:[A-Z][a-z ]+: )?(.+)\"", line
        ):
            why = found[2].split(r"\n\nAt:")[0].replace(r"\n", " ").replace(r"\"", '"').strip()
            why = re.sub(r"Exception from \S+: ", "", why)  # OpenVINO's own source lines
            return f"{found[1]} does not load: {why}"
    errors = [line for line in lines if re.match(r"E\d{4} ", line)] or list(lines)
    return _words(errors[0]) if errors else "its log is empty"


def _words(line: str) -> str:
    """The message in a line of Triton's log."""
    return line.split('] "')[-1].rstrip('"')


def children_of(parent: int, program: str = "") -> list[tuple[int, str, int]]:
    """Number, state and processor time (ticks) of a process's children; see proc(5).

    Args:
        parent: number of the process.
        program: name of the children to list; empty: all.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, rest = path.read_text().split(" (", 1)
            name, text = rest.rsplit(") ", 1)
            fields = text.split()
            # Linux keeps 15 letters of a name.
            if int(fields[1]) == parent and (not program or program.startswith(name)):
                found.append((int(pid), fields[0], int(fields[11]) + int(fields[12])))
    return found


def _in_group(group: int) -> bool:
    """Whether a process of the group runs, besides ended ones that nobody has waited for."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group, *_ = path.read_text().rpartition(") ")[2].split()
            if int(its_group) == group and state != "Z":
                return True
    return False


def _model_of(pid: int) -> str:
    """The model that a Python process runs: `<repository>/<model>/<version>/model.py`."""
    with contextlib.suppress(OSError):
        for part in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            if part.endswith("/model.py"):
                return Path(part).parts[-3]
    return "a model"
