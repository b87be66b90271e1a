"""Owns the end of a server whose `tools serve` was killed: no process, memory or file stays.

Run as a script by `embedded.py`, with nothing but the standard library; its standard input ends
when the process that started it does, however that ended.

    python -I -S guard.py NAME FOLDER
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

SERVER, STUB = "tritonserver", "triton_python_backend_stub"
_SHARED_MEMORY = Path("/dev/shm")
_STOP_TIMEOUT_S = 9


def remove_shared_memory(name: str) -> None:
    """The regions of a server that has ended; they begin with its name."""
    for region in _SHARED_MEMORY.glob(f"{name}*"):
        region.unlink(missing_ok=True)


def _processes(name: str, programs: tuple[str, ...]) -> list[int]:
    """By name, not by number: a number may be another process's by now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if name in command and Path(command.split("\0")[0]).name in programs:
                found.append(int(folder.name))
    return found


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _main(name: str, folder: Path) -> None:
    sys.stdin.buffer.read()
    _send(signal.SIGTERM, _processes(name, (SERVER,)))
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while _processes(name, (SERVER,)) and time.monotonic() < deadline:
        time.sleep(0.1)
    _send(signal.SIGKILL, _processes(name, (SERVER, STUB)))
    remove_shared_memory(name)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
