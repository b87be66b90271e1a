"""Thousands of calls leave nothing behind: no memory, no sockets, no threads.

    CLIENT_LEAK_CALLS=50000 CLIENT_LEAK_OUT=docs/results/client_leak.json \
        python -m pytest tests/long/test_client_leak.py
"""

import asyncio
import ctypes
import gc
import importlib.util
import itertools
import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodypose_client.async_client import AsyncPoseClient
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.shared_memory import SharedMemory
from bodypose_tools.repository.build import build_repository
from bodypose_tools.results.record import Measurement
from bodypose_tools.server.embedded import CLOSED_APIS, embedded_server
from pose_runtime.extras import install_line
from pose_runtime.spec import PipelineSpec

pytestmark = pytest.mark.triton

CALLS = int(os.environ.get("CLIENT_LEAK_CALLS", "2000"))
OUT = os.environ.get("CLIENT_LEAK_OUT")
SCHEMA = "bodypose-client-leak/1"
WARM_UP = 1000
SAMPLES = 20
MOST_GROWTH = 6 * 2**20  # bytes, over all calls: a seventh of what 2000 forgotten images would take
TIMEOUT_S = 60.0  # the machine may be doing other work; how long a call takes is no subject here
CLIENTS = 10  # opened and closed one after the other


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_onnx):
    if importlib.util.find_spec("pytriton") is None:
        pytest.skip(f"needs the embedded server: run {install_line('embedded')}")
    folder = tmp_path_factory.mktemp("leak")
    spec = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
    build_repository(tiny_onnx(folder / "tiny.onnx", spec), folder / "repository")
    closed = [api for api in CLOSED_APIS if api != "shared-memory"]
    with embedded_server(folder / "repository", closed_apis=closed) as running:
        yield running


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    assert len(data) * 2000 > 10 * MOST_GROWTH / 2
    return data


@pytest.fixture(scope="module")
def report():
    """Collects what each way of asking measured, and writes it when a file was asked for."""
    measurement, measured = Measurement(), {}
    yield measured
    if OUT:
        record = {
            "schema": SCHEMA,
            "calls": CALLS,
            "warm_up": WARM_UP,
            **measured,
        }
        measurement.write(Path(OUT), record)


def resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what tests before this one freed in this process
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Memory after warm-up, in between and at the end, as answers pass by."""

    def __init__(self):
        self.samples, self.started, self.calls = [], 0.0, 0

    def __call__(self, poses):
        self.calls += 1
        assert poses.keypoints.shape[1:] == (18, 3)
        over = self.calls - WARM_UP
        if over == 0:
            self.started = time.perf_counter()
        if over >= 0 and over % max(1, CALLS // SAMPLES) == 0:
            self.samples.append(resident_bytes())

    def result(self, files, threads):
        seconds = time.perf_counter() - self.started
        calls = np.linspace(0, CALLS, len(self.samples))
        half = len(calls) // 2
        slope = np.polyfit(calls[half:], self.samples[half:], 1)[0]
        return {
            "calls": self.calls - WARM_UP,
            "calls_per_s": round(CALLS / seconds, 1),
            "rss_mib_after_warm_up": round(self.samples[0] / 2**20, 2),
            "rss_mib_at_the_end": round(self.samples[-1] / 2**20, 2),
            "rss_mib_most": round(max(self.samples) / 2**20, 2),
            "growth_bytes_per_call_second_half": round(float(slope), 2),
            "open_files_more_after_close": settled(open_files, files) - files,
            "threads_more_after_close": settled(threading.active_count, threads) - threads,
        }


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def open_files_by_name() -> list[str]:
    return sorted(str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists())


def settled(count, expected):
    """`count()`, once it is `expected`: gRPC closes its files a moment after its channel."""
    deadline = time.monotonic() + 10
    while count() > expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return count()


def images(image):
    return itertools.repeat(image, WARM_UP + CALLS)


@pytest.mark.parametrize("shared_memory", list(SharedMemory))
@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("kind", [PoseClient, AsyncPoseClient])
def test_many_calls_leave_nothing_behind(server, image, report, kind, protocol, shared_memory):
    url = f"{protocol}://{getattr(server, f'{protocol}_url')}"
    ask_once(kind, url, image, shared_memory)  # libraries open files of their own
    files, threads, watch = open_files(), threading.active_count(), Watch()

    if kind is PoseClient:
        with PoseClient(url, timeout_s=TIMEOUT_S, shared_memory=shared_memory) as client:
            for poses in client.infer_stream(images(image)):
                watch(poses)
    else:
        asyncio.run(ask_asyncio(url, images(image), shared_memory, watch))

    result = watch.result(files, threads)
    report[f"{kind.__name__} {protocol} shared memory {shared_memory}"] = result
    assert result["calls"] == CALLS
    assert watch.samples[-1] - watch.samples[0] < MOST_GROWTH
    # A leak grows with calls or clients; a library may open a file of its own once, at any time.
    assert result["open_files_more_after_close"] < CLIENTS, open_files_by_name()
    assert result["threads_more_after_close"] < CLIENTS, threading.enumerate()
    files, threads = open_files(), threading.active_count()
    for _ in range(CLIENTS):
        ask_once(kind, url, image, shared_memory)
    assert settled(open_files, files) - files < CLIENTS, open_files_by_name()
    assert settled(threading.active_count, threads) - threads < CLIENTS, threading.enumerate()


async def ask_asyncio(url, questions, shared_memory, watch):
    async with AsyncPoseClient(url, timeout_s=TIMEOUT_S, shared_memory=shared_memory) as client:
        async for poses in client.infer_stream(questions):
            watch(poses)


def ask_once(kind, url, image, shared_memory):
    if kind is PoseClient:
        with PoseClient(url, shared_memory=shared_memory) as client:
            client.infer(image)
    else:
        asyncio.run(ask_asyncio(url, [image], shared_memory, lambda poses: None))
