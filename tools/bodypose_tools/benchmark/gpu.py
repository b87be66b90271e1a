"""The measurement of the network, and of the served ensemble, on an NVIDIA GPU without TensorRT."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.photos import photo_jpeg
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.targets import tuned
from bodypose_tools.repository.tuning import UNTUNED_CUDA
from bodypose_tools.server.embedded import embedded_server
from bodypose_tools.server.load import closed_loop, grpc_asks, grpc_stub, image_request
from pose_runtime.cuda_network import cuda_network
from pose_runtime.spec import PipelineSpec

from .conditions import Setting

SCHEMA: Final = "bodypose-gpu/1"
BATCHES: Final = (1, 8, 32, 64)
CLIENTS: Final = (1, 4, 16, 32, 64, 128)
_MAX_RATIO = 2.0  # p99 of batches in random order over the steady one

Network = Callable[[NDArray[np.uint8]], list[Any]]


def measure(setting: Setting) -> dict[str, Any]:
    """Starts, memory, rates by batch and what a changing batch costs; then the served ensemble.

    A quick run leaves out float32, whose kernels take minutes to compile.
    """
    networks = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # empty: the first start compiles
        for precision in ("f16", "f32")[: setting.pick(1, 2)]:
            setting.say(f"network, {precision}: first start")
            first = _in_a_process(_started, setting, precision)
            setting.say(f"network, {precision}: {first} s, next start")
            networks[precision] = {"first_start_s": first} | _in_a_process(
                _network, setting, precision
            )
        record = {"schema": SCHEMA, "networks": networks}
        if importlib.util.find_spec("pytriton") is not None:
            setting.say("served")
            record["served"] = _served(setting)
    return record


def _in_a_process(function: Callable[..., Any], setting: Setting, precision: str) -> Any:
    """In one of its own, as a server's: what a start takes, and no memory left behind."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        calls = setting.pick(50, 300)
        return pool.submit(function, setting.model, setting.spec, precision, calls).result()


def _started(model: Path, spec: PipelineSpec, precision: str, calls: int) -> float:
    started = time.perf_counter()
    cuda_network(model, spec, precision, BATCHES)
    return round(time.perf_counter() - started, 1)


def _network(model: Path, spec: PipelineSpec, precision: str, calls: int) -> dict[str, Any]:
    import torch

    started = time.perf_counter()
    network = cuda_network(model, spec, precision, BATCHES)
    next_start_s = round(time.perf_counter() - started, 1)
    by_batch = {batch: _spread_ms(network, spec, [batch] * calls) for batch in BATCHES}
    free, total = torch.cuda.mem_get_info()
    return {
        "next_start_s": next_start_s,
        "card_memory_gib": round((total - free) / 2**30, 2),
        "by_batch": {
            str(batch): {**ms, "images_per_s": round(batch * 1000 / ms["p50_ms"])}
            for batch, ms in by_batch.items()
        },
        "random_order": _random_order(network, spec, by_batch, calls),
    }


def _random_order(
    network: Network, spec: PipelineSpec, steady: dict[int, dict[str, float]], calls: int
) -> dict[str, Any]:
    """Times of batches in random order, over the steady time of the padded batch."""
    sizes = np.random.default_rng(0).integers(1, max(BATCHES) + 1, calls).tolist()
    times = _times_ms(network, spec, sizes)
    ratios = [
        took / steady[min(batch for batch in BATCHES if batch >= size)]["p99_ms"]
        for took, size in zip(times, sizes, strict=True)
    ]
    worst = round(float(np.percentile(ratios, 99)), 3)
    return {"p99_over_steady_p99": worst, "goal": _MAX_RATIO, "met": worst <= _MAX_RATIO}


def _spread_ms(network: Network, spec: PipelineSpec, sizes: list[int]) -> dict[str, float]:
    times = _times_ms(network, spec, sizes)
    return {
        f"p{share}_ms": round(float(np.percentile(times, share)), 3) for share in (10, 50, 90, 99)
    }


def _times_ms(network: Network, spec: PipelineSpec, sizes: list[int]) -> list[float]:
    """Milliseconds of calls with numpy arrays in and out, copies to and from the card included."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (max(sizes), *spec.pixels.dims), np.uint8)
    for size in dict.fromkeys(sizes):
        network(pixels[:size])
    times = []
    for size in sizes:
        started = time.perf_counter()
        network(pixels[:size])
        times.append((time.perf_counter() - started) * 1000)
    return times


def _served(setting: Setting) -> dict[str, Any]:
    """Rate and latency of the ensemble over gRPC, by clients that send one photo again."""
    request = image_request(_photo(setting.images))
    seconds = setting.pick(2, 8)
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        build_repository(setting.model, repository, tuned(UNTUNED_CUDA))
        started = time.perf_counter()
        with embedded_server(repository) as server:
            ready_s = round(time.perf_counter() - started, 1)
            curve = []
            with grpc_stub(server.grpc_url) as stub:
                for clients in CLIENTS:
                    step = closed_loop(grpc_asks(stub, request), clients, seconds).summary()
                    setting.say(f"served: {clients} clients, {step['images_per_s']} images/s")
                    curve.append(step)
    return {"ready_s": ready_s, "by_clients": curve}


def _photo(images: Path | None) -> bytes:
    """The photo of median size of a folder; a packaged one of 640 x 480 without a folder."""
    if images is None:
        return photo_jpeg(640, 480)
    files = sorted(images.glob("*.jpg"), key=lambda path: path.stat().st_size)
    return files[len(files) // 2].read_bytes()
