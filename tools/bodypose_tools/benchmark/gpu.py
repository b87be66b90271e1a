"""The measurement of the network, and of the served ensemble, on an NVIDIA GPU without TensorRT."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.repository.tuning import UNTUNED_CUDA, UNTUNED_CUDA_DECODING, Tuning
from pose_runtime.card_jpeg import CardJpeg
from pose_runtime.cuda_network import cuda_network
from pose_runtime.images import network_pixels
from pose_runtime.onnx_in_torch import torch_function
from pose_runtime.spec import PipelineSpec

from .around import measure_served, parts_alone, photos
from .conditions import Setting
from .free_network import write_free_network
from .run import GPU_SCHEMA, BenchmarkError

BATCHES: Final = (1, 8, 32, 64)
CLIENTS: Final = (1, 4, 16, 32, 64, 128, 256)
_MAX_RATIO = 2.0  # p99 of batches in random order over the steady one
_MOST_DIFFERENCE = 1  # of 255, between the card's pixels and the CPU's
_PROFILED = 64  # images of the batch whose operators are timed
_CARDS = (1, 2)

Network = Callable[[NDArray[np.uint8]], list[Any]]


def subjects() -> Mapping[str, Callable[[Setting], Any]]:
    """What is measured on a GPU, by name, in the order of a run."""
    return {
        "networks": _networks,
        "profile": lambda setting: _in_a_process(_profile, setting, "f16"),
        "decoding": lambda setting: _in_a_process(_decoding, setting, "f16"),
        "around": partial(_around, tuning=UNTUNED_CUDA),
        "around-card": partial(_around, tuning=UNTUNED_CUDA_DECODING),
        "ensemble": partial(_ensemble, tuning=UNTUNED_CUDA),
        "ensemble-card": partial(_ensemble, tuning=UNTUNED_CUDA_DECODING),
        "cards": _cards,
    }


def measure(
    setting: Setting,
    names: Sequence[str] = (),
    keep: Callable[[dict[str, Any]], object] = lambda record: None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure the subjects named, all if none is; the others stay as in `known`.

    `keep` gets the record after each, so that an end of the run loses only one.

    Raises:
        BenchmarkError: there is no such subject.
    """
    every = subjects()
    if strange := [name for name in names if name not in every]:
        raise BenchmarkError(
            f"subject {strange[0]!r}: expected one of {', '.join(every)} with --device cuda"
        )
    record = {**(known or {}), "schema": GPU_SCHEMA}
    for name in names or every:
        setting.say(name)
        record[name] = every[name](setting)
        keep(record)
    return record


def _networks(setting: Setting) -> dict[str, Any]:
    """Starts, memory, rates by batch, and what a changing batch costs.

    A quick run leaves out float32, whose kernels take minutes to compile.
    """
    networks = {}
    kept = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # empty: the first start compiles
        for precision in ("f16", "f32")[: setting.pick(1, 2)]:
            setting.say(f"network, {precision}: first start")
            first = _in_a_process(_started, setting, precision)
            setting.say(f"network, {precision}: {first} s, next start")
            networks[precision] = {"first_start_s": first} | _in_a_process(
                _network, setting, precision
            )
    del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    if kept:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept
    return networks


def _in_a_process(function: Callable[..., Any], setting: Setting, precision: str) -> Any:
    """In one of its own, as a server's: what a start takes, and no memory left behind."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        calls = setting.pick(50, 300)
        return pool.submit(
            function, setting.model, setting.spec, setting.images, precision, calls
        ).result()


def _started(
    model: Path, spec: PipelineSpec, images: Path | None, precision: str, calls: int
) -> float:
    started = time.perf_counter()
    cuda_network(model, spec, precision, BATCHES)
    return round(time.perf_counter() - started, 1)


def _network(
    model: Path, spec: PipelineSpec, images: Path | None, precision: str, calls: int
) -> dict[str, Any]:
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


def _profile(
    model: Path, spec: PipelineSpec, images: Path | None, precision: str, calls: int
) -> dict[str, Any]:
    """Milliseconds on the card of one large batch, by kind of kernel, and the longest kernels."""
    import torch

    network = cuda_network(model, spec, precision, [_PROFILED])
    pixels = np.zeros((_PROFILED, *spec.pixels.dims), np.uint8)
    network(pixels)
    times: dict[str, float] = defaultdict(float)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(10):
            network(pixels)
    for event in profiler.events():
        times[event.name] += event.device_time_total / 10 / 1000
    kinds: dict[str, float] = defaultdict(float)
    for name, ms in times.items():
        kinds[_kind_of(name)] += ms
    longest = sorted(times.items(), key=lambda item: -item[1])[:15]
    return {
        "batch": _PROFILED,
        "ms_by_kind": {kind: round(ms, 3) for kind, ms in sorted(kinds.items())},
        "longest": [{"kernel": name[:100], "ms": round(ms, 3)} for name, ms in longest],
        "kernels": sum(ms > 0 for ms in times.values()),
    }


def _kind_of(kernel: str) -> str:
    """What a kernel does, by its name; the compiler's own names list the operators in them."""
    name = kernel.lower()
    if "memcpy" in name or "memset" in name:
        return "copies"
    if name.startswith("triton"):
        return "fused by the compiler, with convolution" if "conv" in name else "fused, pointwise"
    if "depthwise" in name or "dgrad2d" in name or "grouped" in name:
        return "depthwise convolutions"
    if any(word in name for word in ("conv", "cudnn", "cutlass", "xmma", "gemm", "implicit")):
        return "dense convolutions"
    return "other"


def _decoding(
    model: Path, spec: PipelineSpec, images: Path | None, precision: str, calls: int
) -> dict[str, Any]:
    """Rates of the card's JPEG decoder by batch, and its pixels against the CPU's."""
    import torch

    from pose_runtime.card_jpeg import for_card
    from pose_runtime.card_pixels import CardPixels
    from pose_runtime.image_headers import checked_image
    from pose_runtime.letterbox_in_torch import letterbox
    from pose_runtime.nvjpeg import HardwareDecoder

    decoder, stream = HardwareDecoder(torch.version.cuda), torch.cuda.Stream()

    def on_cpu(jpeg: bytes) -> NDArray[np.uint8]:
        raise BenchmarkError(f"expected a JPEG that the card decodes, got {len(jpeg)} bytes")

    def decode(jpegs: Sequence[CardJpeg], places: Any) -> list[bool]:
        return decoder.decode(jpegs, places, stream)

    files = photos(images, 10**6)
    chosen = [
        (data, jpeg)
        for data in files
        if (jpeg := for_card(checked_image(data, spec.limits), spec.network_hw))
    ]
    placed = torch.compile(lambda planes, facts: letterbox(planes, facts, spec.network_hw))
    rates: dict[str, Any] = {}
    worst = over = 0
    with torch.inference_mode(), torch.cuda.stream(stream):
        for batch in (1, 8, 32, 64):
            memory = CardPixels(spec, batch, "cuda", decode, on_cpu)
            turns = [
                [chosen[(turn * batch + at) % len(chosen)][1] for at in range(batch)]
                for turn in range(max(10, calls // 5))
            ]
            rates[str(batch)] = {}
            for what in ("decoded", "decoded and letterboxed"):
                times = []
                for number, jpegs in enumerate([turns[0], turns[0], *turns]):
                    begun = time.perf_counter()
                    memory.load(jpegs)
                    if what != "decoded":
                        placed(memory.planes, memory.facts)
                    stream.synchronize()
                    if number > 1:
                        times.append(time.perf_counter() - begun)
                rates[str(batch)][what] = {
                    "p50_ms": round(1000 * float(np.median(times)), 3),
                    "images_per_s": round(batch / float(np.median(times))),
                }
        memory = CardPixels(spec, 32, "cuda", decode, on_cpu)
        for first in range(0, len(chosen), 32):
            part = chosen[first : first + 32]
            memory.load([jpeg for _, jpeg in part])
            made = placed(memory.planes, memory.facts).cpu().numpy()
            for pixels, (data, _) in zip(made, part, strict=False):
                wanted, _ = network_pixels(data, spec.network_hw, spec.limits)
                difference = np.abs(pixels.astype(np.int16) - wanted)
                worst = max(worst, int(difference.max()))
                over += int(difference.max() > _MOST_DIFFERENCE)
    return {
        "photos": len(files),
        "by_the_card": len(chosen),
        "largest_difference": worst,
        "photos_beyond_goal": over,
        "goal": _MOST_DIFFERENCE,
        "met": worst <= _MOST_DIFFERENCE,
        "by_batch": rates,
    }


def _around(setting: Setting, tuning: Tuning) -> dict[str, Any]:
    """All that is around a network that costs nothing."""
    import torch

    network = torch_function(setting.model, 1, "cpu", half=False)
    with tempfile.TemporaryDirectory() as folder:
        free = write_free_network(
            setting,
            photos(setting.images)[0],
            lambda pixels: network(torch.from_numpy(pixels)),
            Path(folder) / "free.onnx",
        )
        clients = CLIENTS[:: setting.pick(2, 1)]
        served = measure_served(setting, free, tuning, clients, Path(folder))
    return {"parts_ms": parts_alone(setting), **served}


def _ensemble(setting: Setting, tuning: Tuning) -> dict[str, Any]:
    """The ensemble with its network."""
    with tempfile.TemporaryDirectory() as folder:
        clients = CLIENTS[:: setting.pick(2, 1)]
        return measure_served(setting, setting.model, tuning, clients, Path(folder))


def _cards(setting: Setting) -> dict[str, Any]:
    """One server with instances on one card and on two; nothing where there is one card."""
    import torch

    record: dict[str, Any] = {}
    for count in _CARDS if torch.cuda.device_count() > 1 else ():
        with tempfile.TemporaryDirectory() as folder:
            tuning = UNTUNED_CUDA_DECODING.on_gpus(count)
            record[str(count)] = measure_served(
                setting, setting.model, tuning, (64, 128, 192), Path(folder)
            )
    best = [max(step["images_per_s"] for step in each["by_clients"]) for each in record.values()]
    return {**record, "times_as_fast": round(best[-1] / best[0], 3) if best[1:] else None}
