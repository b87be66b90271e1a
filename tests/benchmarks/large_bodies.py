"""What bodies of 1 GiB cost a server without a gateway: time, memory, shared memory, neighbours.

python -m tests.benchmarks.large_bodies --out docs/results/large_bodies.json
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import struct
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import ENSEMBLE
from bodypose_tools.results.record import Measurement
from bodypose_tools.server.bounds import bounds_of
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from pose_runtime.spec import PipelineSpec
from tests.fuzz import hostile_images
from tests.tiny_network import write_tiny_onnx

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
MIB = 2**20
BODY_MIB = 1024
AT_ONCE = (1, 3)


def send(server: EmbeddedServer, start: bytes, size: int) -> tuple[int, float]:
    """Status and seconds of a request with one image of `size` bytes."""
    data = {"binary_data_size": 4 + size}
    tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": data}
    head = json.dumps({"inputs": [tensor]}).encode()
    connection = http.client.HTTPConnection(server.http_url, timeout=300)
    started = time.perf_counter()
    connection.putrequest("POST", f"/v2/models/{ENSEMBLE}/infer")
    connection.putheader("Inference-Header-Content-Length", str(len(head)))
    connection.putheader("Content-Length", str(len(head) + 4 + size))
    connection.endheaders(head + struct.pack("<I", size) + start)
    left, piece = size - len(start), bytes(MIB)
    while left:
        connection.send(piece[:left])
        left -= min(left, MIB)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, time.perf_counter() - started


def resident_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


def shared_mib() -> int:
    regions = Path("/dev/shm").glob(f"bodypose_{os.getpid()}_*")
    return sum(path.stat().st_size for path in regions) // MIB


def measured(server: EmbeddedServer, at_once: int) -> dict[str, Any]:
    """Large bodies at once, while a neighbour asks with a picture of 60 x 40."""
    picture = hostile_images.encoded("png", hostile_images.picture())
    over, neighbour, peak = threading.Event(), [], [resident_mib(server.pid)]

    def ask() -> None:
        while not over.is_set():
            status, seconds = send(server, picture, len(picture))
            neighbour.append((status, seconds * 1e3))
            peak.append(resident_mib(server.pid))
            time.sleep(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    with ThreadPoolExecutor(at_once) as pool:
        large = [pool.submit(send, server, b"\xff\xd8\xff", BODY_MIB * MIB) for _ in range(at_once)]
        answers = [each.result() for each in large]
    over.set()
    asking.join()
    times = sorted(ms for _, ms in neighbour)
    return {
        "at_once": at_once,
        "statuses": sorted(status for status, _ in answers),
        "seconds": [round(seconds, 1) for _, seconds in answers],
        "server_peak_mib": max(peak),
        "shared_memory_mib": shared_mib(),
        "neighbour": {
            "requests": len(times),
            "failed": sum(status != http.client.OK for status, _ in neighbour),
            "median_ms": round(statistics.median(times), 1),
            "longest_ms": round(times[-1], 1),
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    measurement = Measurement(timed=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny_onnx(folder / "tiny.onnx", SPEC)
        build_repository(folder / "tiny.onnx", folder / "repository")
        bounds = bounds_of(folder / "repository")
        with embedded_server(folder / "repository") as server:
            pid = server.pid
            at_rest = {"server_mib": resident_mib(pid), "shared_memory_mib": shared_mib()}
            results = [measured(server, at_once) for at_once in AT_ONCE]
            restarted = server.pid != pid
    measurement.write(
        options.out,
        {
            "schema": "bodypose-large-bodies/1",
            "body_mib": BODY_MIB,
            "region_bound_mib": bounds.region_bytes // MIB,
            "memory_bound_mib": bounds.memory_bytes // MIB,
            "at_rest": at_rest,
            "bodies": results,
            "restarted": restarted,
        },
        repeats={"rounds": 1, "order": "one, then three at once"},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
