"""Owns what a long run must not use more and more of: memory, files, shared memory, zombies."""

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

_SHARED_MEMORY = Path("/dev/shm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Between the first and the last quarter of a run. Memory breathes: what a few requests of 20 MB in
# flight hold, and heaps cannot give back at once, comes and goes (300 of them, 4 at a time: 160 to
# 340 MiB, and 146 some requests later), however little the server has else.
_MAX_MEMORY_GROWTH, _BREATH_MIB = 0.05, 64.0
_MAX_MORE_FILES = 4
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE_BLOCK_BYTES, _HEAPS = 2**20, 4


@dataclass(frozen=True, slots=True)
class Sample:
    """The server's processes together, and the process that asks."""

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
    """Let this process give large blocks back when they are freed.

    Of 64 calling threads many have a heap of their own. After the first freed block of 20 MB glibc
    would keep 40 MB in each, which cannot be told from a leak (`man mallopt`, M_MMAP_THRESHOLD and
    M_ARENA_MAX).
    """
    _call_glibc("mallopt", _M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    _call_glibc("mallopt", _M_ARENA_MAX, _HEAPS)


def _call_glibc(function: str, *arguments: int) -> None:
    """Nothing happens with another C library."""
    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL("libc.so.6"), function)(*arguments)


def take_sample(server: EmbeddedServer, started_s: float) -> Sample | None:
    """None while the server is started anew: half of it says nothing."""
    _call_glibc("malloc_trim", 0)
    pids = _family(server.pid)
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
    """Medians of the first and the last quarter, and the largest, of everything."""
    samples = samples[len(samples) // 10 :]  # caches and threads fill first
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
    """Median memory of server and client in each minute, to see whether it rises or breathes."""
    minutes: dict[int, list[Sample]] = {}
    for sample in samples:
        minutes.setdefault(int(sample.at_s // 60), []).append(sample)
    return {
        name: [round(_median(minutes[minute], name), 1) for minute in sorted(minutes)]
        for name in ("server_mib", "client_mib")
    }


def growth_in(summary: dict[str, Any]) -> list[str]:
    """One line for everything that there is more of at the end."""
    problems = []
    for name, values in summary.items():
        first, last = values["first"], values["last"]
        if name.endswith("_mib"):
            allowed = first + max(first * _MAX_MEMORY_GROWTH, _BREATH_MIB)
        elif name.endswith("_files"):
            allowed = first + _MAX_MORE_FILES
        else:
            allowed = first
        if last > allowed:
            problems.append(f"{name}: expected at most {allowed:g} at the end, got {last:g}")
    return problems


def _median(samples: Sequence[Sample], name: str) -> float:
    return float(statistics.median(asdict(sample)[name] for sample in samples))


def _family(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = path.read_text().split(" (", 1)
            if int(rest.rsplit(") ", 1)[1].split()[1]) == pid:
                found.append(int(number))
    return found


def _is_zombie(pid: int) -> bool:
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rsplit(") ", 1)[1].startswith("Z")


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 2**20


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
