"""What it costs that decoding is ended at its limit: medians of both ways, which take turns.

python -m tests.benchmarks.decode_process --out docs/results/decode_process.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from bodypose_tools.results.record import Measurement
from pose_runtime.decode_process import BoundedDecoder
from pose_runtime.image_headers import checked_image
from pose_runtime.images import network_pixels
from pose_runtime.spec import ImageLimits

HW = (288, 384)
TURNS = 31


def photo(height: int, width: int, quality: int) -> bytes:
    """As many bytes a pixel as photos have: smooth with some noise."""
    random = np.random.default_rng(0)
    rows = np.linspace(0, 255, height)[:, None, None] + np.zeros((1, width, 3))
    noisy = rows + random.normal(0, 12, (height, width, 3))
    return bytes(simplejpeg.encode_jpeg(noisy.clip(0, 255).astype(np.uint8), quality=quality))


def in_turns(*ways: Callable[[], object]) -> list[dict[str, float]]:
    """Milliseconds of each; the least is what a machine without other work takes."""
    took: list[list[float]] = [[] for _ in ways]
    for _ in range(TURNS):
        for way, times in zip(ways, took, strict=True):
            started = time.perf_counter()
            way()
            times.append((time.perf_counter() - started) * 1e3)
    return [
        {"median": round(statistics.median(times), 3), "least": round(min(times), 3)}
        for times in took
    ]


def compared(data: bytes, decoder: BoundedDecoder, limits: ImageLimits) -> dict[str, Any]:
    image = checked_image(data, limits)
    here, there = in_turns(
        lambda: network_pixels(data, HW, limits), lambda: decoder.network_pixels(data)
    )
    return {
        "image": str(image.header),
        "bytes": len(data),
        "expected_ms": round(image.expected_ms, 1),
        "in_a_process_of_its_own": not image.is_quick,
        "unbounded_ms": here,
        "bounded_ms": there,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    measurement = Measurement(timed=True)
    limits = ImageLimits()
    starts_ms = in_turns(lambda: BoundedDecoder(HW, limits).close())[0]
    decoder = BoundedDecoder(HW, limits)
    images = [photo(480, 640, 85), photo(3000, 4000, 85), photo(4000, 6000, 75)]
    results = [compared(data, decoder, limits) for data in images]
    decoder.close()
    measurement.write(
        options.out,
        {"schema": "bodypose-decode-process/1", "start_ms": starts_ms, "images": results},
        seeds={"photos": 0},
        repeats={"rounds": TURNS, "order": "in turn"},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
