"""The machine during a step: the server's memory and CPU, and what others took."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

SAMPLE_EVERY_S = 1.0
MAX_OTHERS = 0.1  # of the machine's cores
_VERSIONS = ("bodypose-triton", "tritonclient", "grpcio", "gevent", "locust", "numpy")


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of the machine; `at_s` is on the monotonic clock, CPU seconds only grow."""

    at_s: float
    server_cpu_s: float
    server_mib: float
    busy_cpu_s: float  # all processes


@dataclass(slots=True)
class Sampler:
    """Samples the server's processes now and then, from a thread."""

    server_pid: int | None
    samples: list[Sample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _watch(self) -> None:
        while True:
            self.samples.append(_look(self.server_pid))
            if self._stop.wait(SAMPLE_EVERY_S):
                return

    @contextlib.contextmanager
    def watching(self) -> Iterator[Sampler]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def between(self, begin_s: float, end_s: float) -> list[Sample]:
        return [sample for sample in self.samples if begin_s <= sample.at_s <= end_s]


def about_others(machine: Mapping[str, Any]) -> list[str]:
    """A note when other programs took so much of the machine that numbers may be theirs."""
    others = machine.get("other_cores", 0.0)
    if others <= MAX_OTHERS * len(os.sched_getaffinity(0)):
        return []
    return [f"other programs used {others:.1f} cores: the server alone may do better"]


def machine_summary(samples: Sequence[Sample], generator_cores: float) -> dict[str, Any]:
    """Cores that the server and strangers used, and the server's memory at begin and end."""
    if len(samples) < 2:
        return {}
    first, last = samples[0], samples[-1]
    seconds = last.at_s - first.at_s
    server = (last.server_cpu_s - first.server_cpu_s) / seconds
    busy = (last.busy_cpu_s - first.busy_cpu_s) / seconds
    summary = {
        "generator_cores": generator_cores,
        "other_cores": max(0.0, busy - server - generator_cores),
    }
    if first.server_mib:
        memory = [sample.server_mib for sample in samples]
        quarter = max(1, len(memory) // 4)
        begin, end = (sum(part) / quarter for part in (memory[:quarter], memory[-quarter:]))
        summary |= {"server_cores": server, "server_mib": max(memory)}
        # Of the first and the last quarter, so that one moment does not decide.
        summary |= {"server_mib_begin": begin, "server_mib_end": end}
    return summary


def environment() -> dict[str, Any]:
    """The machine and the versions with which the numbers were measured."""
    versions = {}
    for name in _VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def _look(pid: int | None) -> Sample:
    cpu_s = memory = 0.0
    for process in _tree(pid) if pid else []:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu_s += times.user + times.system
            memory += _private_bytes(process)
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return Sample(time.monotonic(), cpu_s, memory / 2**20, busy)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _private_bytes(process: psutil.Process) -> float:
    """Proportional set size: memory that processes share is counted once."""
    return float(process.memory_full_info().pss)


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
