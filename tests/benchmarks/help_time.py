"""How long `tools --help` takes beside a Python that does nothing.

    python tests/benchmarks/help_time.py

Both take turns, so that a busy machine slows both; the bound is for the help as a person waits for
it, Python's own start included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

MAX_HELP_S = 0.5
_COMMANDS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "tools --help": (sys.executable, "-m", "bodypose_tools.cli", "--help"),
}


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one command: the median, and the 10th and 90th percentile."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} s ({self.low:.3f} to {self.high:.3f})"


def measure(rounds: int) -> dict[str, Times]:
    """Each command's times over `rounds` turns, after one that is not counted: files are cached."""
    seconds: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for turn in range(rounds + 1):
        for name, command in _COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {
        name: Times(*map(float, np.percentile(times, (50, 10, 90))))
        for name, times in seconds.items()
    }


def main() -> None:
    """Print the times; exit code 1 when the help takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="How often each command runs.")
    times = measure(parser.parse_args().rounds)
    for name, each in times.items():
        print(f"{name:15} {each}")  # noqa: T201
    sys.exit(times["tools --help"].median > MAX_HELP_S)


if __name__ == "__main__":
    main()
