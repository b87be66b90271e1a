"""Owns the end of child processes: they get time to end by themselves, and no more than that."""

from __future__ import annotations

import subprocess


def wait_or_kill(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait for a process that was asked to end, kill it when it does not, and close its output."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
