"""The most memory that the embedded tritonserver may take, whatever is sent to it.

Triton 2.51 has no limit for a body: it holds all of it, then copies it into the shared memory of
the model, which grows and never shrinks. The kernel's limits end that: a region that would grow
too large is an error of its request.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bodypose_tools.repository.build import CONFIG, PIPELINE
from bodypose_tools.repository.pbtxt import ENSEMBLE, PREPROCESS, read_config
from pose_runtime.spec import PipelineSpec

# Beside its inputs: what the pool starts with, outputs, and what lies between freed pieces.
_REGION_SPARE_BYTES = 64 * 2**20
_LEAST_MEMORY_BYTES = 4 * 2**30
# Python ignores SIGXFSZ, and an exec keeps that: the system call fails, and nobody is killed.
_PROGRAM = (
    "import os, resource, sys;"
    "region, memory = map(int, sys.argv[1:3]);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (region, region));"
    "resource.setrlimit(resource.RLIMIT_DATA, (memory, memory));"
    "os.execv(sys.argv[3], sys.argv[3:])"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of each process of a server.

    region_bytes: of one model's shared memory, as of any file that a process of it writes.
    memory_bytes: of a process's own memory; a tritonserver beyond it ends and is restarted.
    """

    region_bytes: int
    memory_bytes: int


def bounds_of(repository: Path) -> Bounds:
    """Twice what the largest request takes that the repository accepts; half of the machine.

    Raises:
        PoseError: a description of the pipeline cannot be read.
    """
    images = max(1, int(read_config(repository / ENSEMBLE / CONFIG).max_batch_size))
    specs = map(PipelineSpec.load, (repository / PREPROCESS).glob(f"*/{PIPELINE}"))
    largest = max((spec.limits.max_bytes for spec in specs), default=0)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Bounds(
        2 * images * largest + _REGION_SPARE_BYTES, max(_LEAST_MEMORY_BYTES, machine // 2)
    )


def bounded(command: Sequence[str | Path], bounds: Bounds) -> list[str | Path]:
    """`command` within `bounds`, which its children inherit."""
    limits = (str(bounds.region_bytes), str(bounds.memory_bytes))
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, *limits, *command]
