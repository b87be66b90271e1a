"""Grey images, whose answers say which image they belong to, and clients that wait for a server.

The network of these tests (`tiny_onnx`) puts joint 0 at (1 + the pixels' mean, 2) in every image.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import PATIENT
from tests.processes import AT_ONCE, command_of, processes_of

STUB = "triton_python_backend_stub"
GREYS = list(range(5, 45)) * 6  # beyond 47 the joint would leave the picture, where it ends


# All greys' people stand inside the picture: its mean is a grey divided by that.
_SCALE = 6


def grey_png(grey: int) -> bytes:
    """A picture of the network's size whose mean is `grey` / 6, exactly."""
    pixels = np.full((32 * 48, 3), grey // _SCALE, np.uint8)
    pixels[: len(pixels) * (grey % _SCALE) // _SCALE] += 1
    return cv2.imencode(".png", pixels.reshape(32, 48, 3))[1].tobytes()


def urls_in(said: str) -> dict[str, str]:
    """`gRPC` and `HTTP` -> host:port, from what `tools serve` prints."""
    words = [line.split() for line in said.splitlines()]
    return {line[0]: line[1].removeprefix("http://") for line in words if len(line) == 2}


def ports_of(urls: dict[str, str]) -> tuple[str, ...]:
    """The options that serve on the same ports again."""
    grpc, http = (urls[name].rsplit(":", 1)[1] for name in ("gRPC", "HTTP"))
    return ("--http-port", http, "--grpc-port", grpc, "--metrics-port", "0", *AT_ONCE)


def grey_seen(client: PoseClient, grey: int) -> int:
    return round(_SCALE * (float(client.infer(grey_png(grey)).keypoints[0, 0, 0]) - 1))


@contextmanager
def patient_client(protocol: str, urls: dict[str, str]) -> Iterator[PoseClient]:
    url = f"{protocol}://{urls['gRPC' if protocol == 'grpc' else 'HTTP']}"
    with PoseClient(url, timeout_s=30, retries=PATIENT) as client:
        yield client


def model_processes(serving: subprocess.Popen[str], model: str) -> list[int]:
    return [pid for pid in processes_of(serving, STUB) if f"/{model}/" in command_of(pid)]
