"""What tests ask of our commands and their processes, from outside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

AT_ONCE = ("--drain-seconds", "0")  # nobody balances between tests' servers
TOOLS = [sys.executable, "-c", "from bodypose_tools.cli import main; main()"]


def free_ports() -> tuple[str, ...]:
    return ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", *AT_ONCE)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def pose_loadtest(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bodypose_loadtest.cli", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def processes_of(serving: subprocess.Popen[str] | psutil.Process, program: str) -> list[int]:
    """The server, or its Python models, that one `serve` has started."""
    name = f"bodypose_{serving.pid}_"  # see embedded_server
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [
        pid
        for pid in pids
        if name in command_of(pid) and Path(command_of(pid).split("\0")[0]).name == program
    ]


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def until_ready(process: subprocess.Popen[str]) -> str:
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("ready"):
            break
    return "".join(lines)


def left_by(process: subprocess.Popen[str], folder: Path) -> list[str]:
    """What remains of a finished `serve`: programs, temporary files, shared memory."""
    programs = ("tritonserver", "triton_python_backend_stub")
    return [
        *(f"process {pid}" for program in programs for pid in processes_of(process, program)),
        *map(str, folder.iterdir()),
        *map(str, Path("/dev/shm").glob(f"bodypose_{process.pid}_*")),
    ]
