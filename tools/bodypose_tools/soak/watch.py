"""The resources that must not grow in a long run: memory, open files, shared memory, zombies."""

from __future__ import annotations

import contextlib
import ctypes
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bodypose_tools.server.embedded import EmbeddedServer
from bodypose_tools.server.process import children_of

_SHARED_MEMORY = Path("/dev/shm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Growth between the first and the last quarter of a run. Memory also varies with requests of 20 MB
# under way, which heaps do not release at once (300 such requests, 4 at a time: 160 to 340 MiB, and
# 146 MiB some requests later).
_MAX_MEMORY_GROWTH, _VARIATION_MIB = 0.05, 64.0
_MAX_MORE_FILES = 4
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE_BLOCK_BYTES, _HEAPS = 2**20, 4


@dataclass(frozen=True, slots=True)
class Sample:
    """Resources of the server's processes together, and of the client's process."""

    at_s: float
    server_mib: float
    server_files: int
    server_processes: int
    zombies: int
    shm_segments: int
    shm_mib: float
    client_mib: float
    client_files: int


def keep_heaps_small() -> None:
    """Make this process release large blocks when they are freed.

    Many of the 64 calling threads have a heap of their own. After the first freed block of 20 MB
    glibc would keep 40 MB in each heap, which looks like a leak (`man mallopt`, M_MMAP_THRESHOLD
    and M_ARENA_MAX).
    """
    _call_glibc("mallopt", _M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    _call_glibc("mallopt", _M_ARENA_MAX, _HEAPS)


def _call_glibc(function: str, *arguments: int) -> None:
    """Call a function of glibc; with another C library nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL("libc.so.6"), function)(*arguments)


def take_sample(server: EmbeddedServer, started_s: float) -> Sample | None:
    """The resources now; None while the server restarts.

    Args:
        server: whose processes are counted.
        started_s: start of the run, on the monotonic clock.
    """
    _call_glibc("malloc_trim", 0)
    pids = [server.pid, *(pid for pid, _, _ in children_of(server.pid))]
    try:
        memory = sum(_resident_mib(pid) for pid in pids if not _is_zombie(pid))
        files = sum(_open_files(pid) for pid in pids if not _is_zombie(pid))
    except OSError:
        return None
    regions = [region.stat().st_size for region in _SHARED_MEMORY.glob(f"bodypose_{os.getpid()}_*")]
    return Sample(
        time.monotonic() - started_s,
        memory,
        files,
        len(pids),
        sum(map(_is_zombie, pids)),
        len(regions),
        sum(regions) / 2**20,
        _resident_mib(os.getpid()),
        _open_files(os.getpid()),
    )


def summary_of(samples: Sequence[Sample]) -> dict[str, Any]:
    """Medians of the first and the last quarter, and the largest value, by resource."""
    samples = samples[len(samples) // 10 :]  # without the time in which caches and threads fill
    quarter = max(1, len(samples) // 4)
    return {
        field.name: {
            "first": round(_median(samples[:quarter], field.name), 2),
            "last": round(_median(samples[-quarter:], field.name), 2),
            "max": round(max(asdict(sample)[field.name] for sample in samples), 2),
        }
        for field in fields(Sample)
        if field.name != "at_s"
    }


def by_minute(samples: Sequence[Sample]) -> dict[str, list[float]]:
    """Median memory of server and client in each minute, to tell a trend from variation."""
    minutes: dict[int, list[Sample]] = {}
    for sample in samples:
        minutes.setdefault(int(sample.at_s // 60), []).append(sample)
    return {
        name: [round(_median(minutes[minute], name), 1) for minute in sorted(minutes)]
        for name in ("server_mib", "client_mib")
    }


def growth_in(summary: dict[str, Any]) -> list[str]:
    """One line for each resource that has grown; empty when none has."""
    problems = []
    for name, values in summary.items():
        first, last = values["first"], values["last"]
        if name.endswith("_mib"):
            allowed = first + max(first * _MAX_MEMORY_GROWTH, _VARIATION_MIB)
        elif name.endswith("_files"):
            allowed = first + _MAX_MORE_FILES
        else:
            allowed = first
        if last > allowed:
            problems.append(f"{name}: expected at most {allowed:g} at the end, got {last:g}")
    return problems


def _median(samples: Sequence[Sample], name: str) -> float:
    return float(statistics.median(asdict(sample)[name] for sample in samples))


def _is_zombie(pid: int) -> bool:
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rsplit(") ", 1)[1].startswith("Z")


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 2**20


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
