"""The end of child processes: they get time to end by themselves, and no more than that."""

from __future__ import annotations

import subprocess
import sys

# Before a command: the system asks the process to end (SIGTERM) when the thread that started it
# ends, also by `kill -9` (prctl(2): PR_SET_PDEATHSIG, which an exec keeps; Linux only).
_ASK_FOR_IT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
)
ENDS_WITH_US: tuple[str, ...] = ()
if sys.platform == "linux":
    ENDS_WITH_US = (sys.executable, "-I", "-S", "-c", _ASK_FOR_IT)


def wait_or_kill(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait for a process that was asked to end, kill it when it does not, and close its output."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
