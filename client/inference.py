"""Owns finding people in image files: each file is answered or refused, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pose_runtime.errors import PoseError
from pose_runtime.poses import Poses

from .errors import FileError, RequestRejected
from .image_bytes import read_image_file
from .in_flight import map_in_order
from .pose_client import PoseClient


@dataclass(frozen=True, slots=True)
class Found:
    """The people of one file."""

    path: Path
    data: bytes  # the file
    poses: Poses
    request_ms: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is missing, or that the server does not accept as an image."""

    path: Path
    problem: str


def find_people(
    client: PoseClient, paths: Sequence[Path], in_flight: int
) -> Iterator[Found | Refused]:
    """The answer for each file, in order; a refused file does not stop the others.

    Raises:
        ClientError: the server is gone, busy or too slow.
    """
    return map_in_order(partial(_find, client), paths, in_flight)


def _find(client: PoseClient, path: Path) -> Found | Refused:
    try:
        data = read_image_file(path)
    except FileError as error:
        return Refused(path, str(error))
    started = time.perf_counter()
    try:
        poses = client.infer(data)
    except RequestRejected as error:
        return Refused(path, one_line(path, error))
    return Found(path, data, poses, (time.perf_counter() - started) * 1000)


def one_line(path: Path, error: PoseError) -> str:
    return f"{path}: {error}"
