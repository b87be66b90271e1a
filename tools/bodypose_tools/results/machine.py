"""The machine that something was measured on, and how quiet it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

_CPUINFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")

NOISE_RULE: Final = 0.15  # relative spread of the fixed job beyond which a machine is too noisy
_JOB_SIDE = 256  # of the fixed job's matrices; one job is some milliseconds on one core
_JOBS = 7  # in a row; their median is one point of the noise


def machine() -> dict[str, Any]:
    """CPU and GPU by name, the CPU's vector instructions, cores that may be used."""
    fields = cpu_fields()
    flags = fields.get("flags", "").split()
    return {
        "cpu": fields.get("model name", "unknown"),
        "gpu": _gpu(),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": len(os.sched_getaffinity(0)),
    }


def load_average() -> float:
    """Of the last minute."""
    return round(os.getloadavg()[0], 1)


def cpu_fields() -> dict[str, str]:
    """What Linux says of the first core: "model name", "flags" and more; elsewhere nothing."""
    fields: dict[str, str] = {}
    for line in _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def _gpu() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = subprocess.run(
        [program, "--query-gpu=name", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip().partition("\n")[0] or None


@dataclass(slots=True)
class Noise:
    """Milliseconds of one fixed job, asked before, between and after what is measured.

    The job is the same every time, so what its time varies is the machine's doing.
    """

    clock: Callable[[], float] = time.perf_counter
    points_ms: list[float] = field(default_factory=list)

    def probe(self) -> None:
        """One more point: the median of some runs of the job."""
        matrix = np.full((_JOB_SIDE, _JOB_SIDE), 0.5, np.float64)
        spent = []
        for _ in range(_JOBS):
            started = self.clock()
            _job(matrix)
            spent.append(self.clock() - started)
        self.points_ms.append(round(1000 * float(np.median(spent)), 3))

    def to_json(self) -> dict[str, Any]:
        """The points, their spread (largest over smallest, minus 1), and what that means."""
        spread = max(self.points_ms) / min(self.points_ms) - 1
        return {
            "fixed_job_ms": self.points_ms,
            "spread": round(spread, 3),
            "limit": NOISE_RULE,
            "too_noisy": spread > NOISE_RULE,
        }


def _job(matrix: np.ndarray[Any, Any]) -> float:
    """Arithmetic of one core, without a library that starts threads."""
    total = 0.0
    for row in matrix:
        total += float((matrix * row).sum())
    return total
