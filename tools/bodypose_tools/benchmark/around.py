"""The measurement of all that is around a network: where an image's time goes, what it costs.

With a network that costs nothing, what is left is preprocessing, grouping, Triton and gRPC.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bodypose_tools.data.photos import photo_jpeg
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import ENSEMBLE, STEPS
from bodypose_tools.repository.targets import tuned
from bodypose_tools.repository.tuning import Tuning
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from bodypose_tools.server.load import Crowd, closed_loop, grpc_asks, grpc_stub, image_request
from pose_runtime.card_jpeg import for_card, unpack
from pose_runtime.image_headers import checked_image
from pose_runtime.images import checked_pixels
from pose_runtime.spec import PipelineSpec

from .conditions import Setting
from .serving import STAGES, Spent, milliseconds_between, processes_of, spent

_SERVER = "tritonserver"


def photos(images: Path | None, count: int = 64) -> list[bytes]:
    """Photos of a folder, spread over it; the packaged one without a folder."""
    if images is None:
        return [photo_jpeg(640, 480)]
    files = sorted(images.glob("*.jpg"))
    return [file.read_bytes() for file in files[:: max(1, len(files) // count)][:count]]


def measure_served(
    setting: Setting, model: Path, tuning: Tuning, clients: Sequence[int], folder: Path
) -> dict[str, Any]:
    """A served ensemble with these settings: one client's time by step, rates and cores by clients.

    Args:
        setting: its photos are sent in turn.
        model: ONNX file with the setting's tensors.
        tuning: of the server.
        clients: numbers of clients.
        folder: for the repository.
    """
    images = photos(setting.images)
    repository = folder / "repository"
    build_repository(model, repository, tuned(tuning))
    started = time.perf_counter()
    with embedded_server(repository) as server:
        ready_s = round(time.perf_counter() - started, 1)
        setting.say(f"ready in {ready_s} s")
        alone = _one_client(setting, server, images, setting.pick(2, 4))
        setting.say(f"one client: {alone}")
        crowd = Crowd(server.grpc_url, images, min(8, max(1, _cores() // 2)))
        curve = []
        try:
            for count in clients:
                before = _processor_s(server)
                beginning = spent_by_stage(server)
                begun = time.perf_counter()
                step = crowd.closed_loop(count, setting.pick(3, 6)).summary()
                took = time.perf_counter() - begun
                processor_s, end = _processor_s(server), spent_by_stage(server)
                answered = end[ENSEMBLE]["success"][0] - beginning[ENSEMBLE]["success"][0]
                per_image_ms = {
                    name: round(1000 * (seconds - before[name]) / max(answered, 1), 3)
                    for name, seconds in processor_s.items()
                }
                step["processor_ms_per_image"] = per_image_ms
                step["cores_per_1000_images_per_s"] = round(sum(per_image_ms.values()), 2)
                step["by_step_ms"] = _by_step(beginning, end)
                step["seconds"] = round(took, 1)
                setting.say(
                    f"{count} clients: {step['images_per_s']} images/s, p99"
                    f" {step['latency_ms']['p99']} ms, cores per 1,000 images/s"
                    f" {step['cores_per_1000_images_per_s']}"
                )
                curve.append(step)
        finally:
            crowd.close()
    return {"ready_s": ready_s, "one_client": alone, "by_clients": curve}


def _one_client(
    setting: Setting, server: EmbeddedServer, images: Sequence[bytes], seconds: float
) -> dict[str, Any]:
    """One client's wait for a photo, and what of it each step has."""
    jpeg = _median_for_a_card(images, setting.spec)
    with grpc_stub(server.grpc_url) as stub:
        beginning = spent_by_stage(server)
        load = closed_loop(grpc_asks(stub, image_request(jpeg)), 1, seconds)
    mean_ms = 1000 * float(np.mean(load.latencies_s))
    by_step = _by_step(beginning, spent_by_stage(server))
    inside = by_step[ENSEMBLE].pop("whole")
    steps = sum(sum(stages.values()) for name, stages in by_step.items() if name != ENSEMBLE)
    return {
        "jpeg_bytes": len(jpeg),
        "latency_ms": {"mean": round(mean_ms, 3), **load.summary()["latency_ms"]},
        "by_step_ms": {name: by_step[name] for name in STEPS},
        "between_steps_ms": round(inside - steps, 3),
        "grpc_ms": round(mean_ms - inside, 3),
    }


def _median_for_a_card(images: Sequence[bytes], spec: PipelineSpec) -> bytes:
    """The photo of median size among those that a card's decoder takes, or among all."""
    taken = [
        image for image in images if for_card(checked_image(image, spec.limits), spec.network_hw)
    ]
    ordered = sorted(taken or images, key=len)
    return ordered[len(ordered) // 2]


def spent_by_stage(server: EmbeddedServer) -> Spent:
    """Triton's statistics of the server, see `serving.spent`."""
    with grpc_stub(server.grpc_url) as stub:
        return spent(stub)


def _by_step(before: Spent, after: Spent) -> dict[str, dict[str, float]]:
    """Milliseconds of a request in each model by stage, and in the whole ensemble."""
    return {
        name: {"whole": stages["success"]}
        if name == ENSEMBLE
        else {stage: stages[stage] for stage in STAGES}
        for name, stages in milliseconds_between(before, after).items()
    }


def _processor_s(server: EmbeddedServer) -> dict[str, float]:
    """Processor seconds so far of the server itself and of each step's processes."""
    seconds: dict[str, float] = dict.fromkeys((_SERVER, *STEPS), 0.0)
    for process in processes_of(server):
        try:
            command, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:
            continue
        name = next((step for step in STEPS if step in command), _SERVER)
        seconds[name] += times.user + times.system
    return seconds


def parts_alone(setting: Setting, count: int = 200) -> dict[str, float]:
    """Milliseconds of what our code does with an image, in this process: medians over photos."""
    spec, images = setting.spec, photos(setting.images)
    checked = [checked_image(jpeg, spec.limits) for jpeg in images]
    for_cards = [jpeg for image in checked if (jpeg := for_card(image, spec.network_hw))]
    packed = [jpeg.pack() for jpeg in for_cards]
    parts: dict[str, tuple[Sequence[Any], Callable[[Any], object]]] = {
        "check of the header": (images, lambda jpeg: checked_image(jpeg, spec.limits)),
        "decode and letterbox": (checked, lambda image: checked_pixels(image, spec.network_hw)),
        "choice for the card": (checked, lambda image: for_card(image, spec.network_hw)),
        "pack for the card": (for_cards, lambda jpeg: jpeg.pack()),
        "unpack": (packed, lambda each: unpack(each, spec.network_hw, spec.limits)),
    }
    made = {"share for the card": round(len(for_cards) / len(images), 3)}
    for name, (items, work) in parts.items():
        times = []
        for number in range(count if items else 0):
            begun = time.perf_counter()
            work(items[number % len(items)])
            times.append(time.perf_counter() - begun)
        if times:
            made[name] = round(1000 * float(np.median(times)), 4)
    return made


def _cores() -> int:
    return len(os.sched_getaffinity(0))
