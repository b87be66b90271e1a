"""Measures that `pose-client evaluate` is limited by the server: its images/s over a generator's.

    python tests/benchmarks/client_throughput.py --out docs/results/client_throughput.json

The generator is as little client as there can be: raw gRPC stubs, requests that were built before
the clock started, answers that nobody reads. Both sides have the same server, images and number of
requests in flight, and take turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_client.evaluation import Split, ask, open_split
from bodypose_client.in_flight import map_in_order
from bodypose_client.pose_client import PoseClient
from bodypose_tools.repository.build import build_repository
from bodypose_tools.results.ratios import paired_ratio, verdict
from bodypose_tools.results.record import Measurement
from bodypose_tools.server.embedded import embedded_server
from bodypose_tools.server.load import grpc_stub, image_request

ROOT = Path(__file__).parents[2]
SIDES = ("generator", "evaluate")
COCO = Path(os.environ.get("COCO_DIR", ROOT.parent / "shared" / "coco"))


def main() -> None:
    options = _options()
    measurement = Measurement(timed=True)
    whole = open_split(options.coco / "person_keypoints_val.json", options.coco / "val", None)
    slices = [
        replace(whole, images=whole.images[start :: options.slices])
        for start in range(options.slices)
    ]
    with tempfile.TemporaryDirectory() as folder:
        build_repository(options.model, Path(folder) / "repository")
        with (
            embedded_server(Path(folder) / "repository") as server,
            PoseClient(f"grpc://{server.grpc_url}") as client,
        ):
            sides = {
                "generator": lambda split: generate(server.grpc_url, split, options.in_flight),
                "evaluate": lambda split: evaluate(client, split, options.in_flight),
            }
            for side in sides.values():
                side(slices[0])  # warm-up
            rounds = [
                {name: sides[name](split) for name in sorted(sides, reverse=number % 2 == 0)}
                for number, split in enumerate(slices * options.repeats)
            ]
    result = {**_summary(rounds), **_setting(options, whole)}
    ratio = paired_ratio(
        [each["generator"].seconds for each in rounds],
        [each["evaluate"].seconds for each in rounds],
    )
    measurement.write(
        options.out,
        result,
        models=[options.model],
        data=[options.coco / "person_keypoints_val.json"],
        repeats={"rounds": len(rounds), "order": "in turn, order alternating"},
        seeds={"bootstrap": 0},
        verdicts=[verdict("evaluate over generator", ">= 0.95", ratio, ratio.at_least(0.95))],
    )
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _summary(rounds: list[dict[str, Side]]) -> dict[str, Any]:
    """Totals, and the 95 % interval of their ratio from resampled rounds."""
    seconds = np.array([[each[name].seconds for name in SIDES] for each in rounds])
    images = np.array([each["evaluate"].images for each in rounds])
    cpu = np.array([[each[name].cpu_s for name in SIDES] for each in rounds]).sum(axis=0)
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(rounds), (2000, len(rounds)))
    ratios = seconds[drawn, 0].sum(axis=1) / seconds[drawn, 1].sum(axis=1)
    rates = images.sum() / seconds.sum(axis=0)
    return {
        "schema": "bodypose-client-throughput/2",
        "generator_images_per_s": round(float(rates[0]), 2),
        "evaluate_images_per_s": round(float(rates[1]), 2),
        "ratio": round(float(rates[1] / rates[0]), 3),
        "ratio_95": [round(float(end), 3) for end in np.percentile(ratios, (2.5, 97.5))],
        "generator_cpu_ms_per_image": round(float(cpu[0] / images.sum() * 1000), 3),
        "evaluate_cpu_ms_per_image": round(float(cpu[1] / images.sum() * 1000), 3),
    }


def _setting(options: argparse.Namespace, split: Split) -> dict[str, Any]:
    return {
        "model": options.model.name,
        "images": len(split.images) * options.repeats,
        "slices": options.slices * options.repeats,
        "in_flight": options.in_flight,
        "protocol": "grpc",
        "cpus": os.cpu_count(),
        "method": "both sides take turns on slices of the same images, order alternating; the"
        " generator is a raw gRPC stub with requests built beforehand, answers not read",
    }


@dataclass(frozen=True)
class Side:
    """What one side did with one slice; CPU is the client process's own."""

    images: int
    seconds: float
    cpu_s: float


def evaluate(client: PoseClient, split: Split, in_flight: int) -> Side:
    """As `pose-client evaluate` streams images: read, sent, answers turned into COCO's results."""
    before = time.process_time()
    asked = map_in_order(partial(ask, client), split.images, in_flight)
    started = time.perf_counter()
    count = sum(1 for _ in asked)
    return Side(count, time.perf_counter() - started, time.process_time() - before)


def generate(url: str, split: Split, in_flight: int) -> Side:
    """All requests once, `in_flight` threads that each ask for the next one."""
    requests = [image_request(image.path.read_bytes()) for image in split.images]
    with grpc_stub(url) as stub:
        left, lock = itertools.count(), threading.Lock()

        def ask_on() -> None:
            while True:
                with lock:
                    number = next(left)
                if number >= len(requests):
                    return
                stub.ModelInfer(requests[number])

        threads = [threading.Thread(target=ask_on) for _ in range(in_flight)]
        before, started = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        return Side(len(requests), seconds, time.process_time() - before)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=ROOT / "tools/bodypose_tools/models/bodypose-s.onnx"
    )
    parser.add_argument("--coco", type=Path, default=COCO)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
