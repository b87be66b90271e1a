"""The generator processes as seen from the command: started, told what to do, ended."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .arrivals import Phase
from .errors import GeneratorError
from .orders import Loop, Setting, Work
from .processes import ENDS_WITH_US, wait_or_kill
from .records import Records
from .scenarios import Stretch

GENERATOR = (sys.executable, "-m", "bodypose_loadtest.generator")
LEAD_S = 0.2  # from giving the order to the first request, so that all processes begin together
_STOP_TIMEOUT_S = 3


@dataclass(frozen=True, slots=True)
class Done:
    """A stretch that has been run."""

    records: Records
    busiest_cores: float  # of one process
    all_cores: float


class Workers:
    """Generator processes that share a load."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]], folder: Path) -> None:
        self._processes, self._folder = processes, folder

    def run(self, stretch: Stretch, start_at: float, seed: int) -> Done:
        """Run one stretch from its warm-up to the last answer.

        Args:
            stretch: what to do.
            start_at: on the monotonic clock, `LEAD_S` from now or later.
            seed: each process gets its own from it.
        """
        seeds = np.random.SeedSequence(seed).generate_state(len(self._processes))
        paths = [self._folder / f"{number}.npy" for number in range(len(self._processes))]
        for number, process in enumerate(self._processes):
            phases = _share(stretch, number, len(self._processes))
            work = Work(stretch.loop, phases, start_at, int(seeds[number]), str(paths[number]))
            _tell(process, work.to_json())
        answers = [_hear(process) for process in self._processes]
        cores = [answer["cpu_s"] / answer["wall_s"] for answer in answers]
        parts = [
            (np.load(path), answer["errors"]) for path, answer in zip(paths, answers, strict=True)
        ]
        return Done(Records.merged(parts, start_at), max(cores), sum(cores))


@contextlib.contextmanager
def generator_processes(setting: Setting, count: int) -> Iterator[Workers]:
    """`count` processes with their requests built, ended when the block ends.

    Raises:
        GeneratorError: one ended early; its own words are on stderr.
    """
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="pose-load-")))
        processes = [_start() for _ in range(count)]
        for process in processes:
            ending.callback(_end, process)
        for process in processes:
            _tell(process, setting.to_json())
        for process in processes:
            _hear(process)
        yield Workers(processes, folder)


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ENDS_WITH_US, *GENERATOR],  # a killed load test sends nothing more
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _share(stretch: Stretch, number: int, count: int) -> tuple[Phase, ...]:
    """One process's part: rates are divided, users are dealt out one by one."""
    if stretch.loop is Loop.OPEN:
        return tuple(replace(phase, load=phase.load / count) for phase in stretch.phases)
    return tuple(
        replace(phase, load=len(range(number, round(phase.load), count)))
        for phase in stretch.phases
    )


def _tell(process: subprocess.Popen[str], order: dict[str, Any]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
    except OSError as error:
        raise _ended(process) from error


def _hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise _ended(process)
    return dict(json.loads(line))


def _ended(process: subprocess.Popen[str]) -> GeneratorError:
    code = process.wait()
    return GeneratorError(
        f"generator: expected an answer, got exit code {code}; its own words are above"
    )


def _end(process: subprocess.Popen[str]) -> None:
    """The end of stdin ends the process; one that is amid its work is killed."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    wait_or_kill(process, _STOP_TIMEOUT_S)
