"""Memory is bounded by the kernel, and what does not fit is an error of who asks for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.targets import Serving
from bodypose_tools.server.bounds import Bounds, bounded, bounds_of
from pose_runtime.spec import PipelineSpec

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
MIB = 2**20


def test_the_largest_accepted_request_fits_twice(tmp_path, tiny_onnx: Callable[..., Path]):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    for max_bytes in (MIB, 16 * MIB):
        build_repository(model, tmp_path / "r", limits={"max_bytes": max_bytes})
        region = bounds_of(tmp_path / "r").region_bytes
        assert 2 * Serving().max_batch_size * max_bytes <= region
        assert region <= 2 * Serving().max_batch_size * max_bytes + 64 * MIB


def test_a_file_or_memory_beyond_the_bounds_is_an_error_and_ends_nobody(tmp_path):
    program = (
        "import json, mmap, os, sys\n"
        "told = []\n"
        "for size in (3, 5):\n"
        "    file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "    try: os.posix_fallocate(file, 0, size << 20); told.append('fits')\n"
        "    except OSError as error: told.append(error.strerror)\n"
        "try: bytearray(300 << 20); told.append('fits')\n"
        "except MemoryError: told.append('too much')\n"
        "print(json.dumps(told))\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "region"]

    done = subprocess.run(
        bounded(command, Bounds(4 * MIB, 200 * MIB)), capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == ["fits", "File too large", "too much"]
