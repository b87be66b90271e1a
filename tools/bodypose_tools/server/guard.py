"""The clean-up after a killed `tools serve`: its server's processes, memory and files.

A script that `embedded.py` starts, with the standard library alone. Its standard input ends when
the process that started it ends, in whatever way.

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
    """Remove the shared memory of a server that has ended; its regions begin with the name."""
    for region in _SHARED_MEMORY.glob(f"{name}*"):
        region.unlink(missing_ok=True)


def _processes(name: str, programs: tuple[str, ...]) -> list[int]:
    """Processes by the server's name, because a number may belong to another process by now."""
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
