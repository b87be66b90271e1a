"""People found in image files: each file is answered or refused, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from bodypose_client.errors import FileError, RequestRejected
from bodypose_client.in_flight import map_in_order
from bodypose_client.pose_client import PoseClient
from bodypose_client.results import ImagePoses
from pose_runtime.errors import PoseError

from .image_sources import ImageFile


@dataclass(frozen=True, slots=True)
class Found:
    """The people of one file."""

    file: ImageFile
    data: bytes  # the file
    poses: ImagePoses


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is missing, or that the server does not accept as an image."""

    file: ImageFile
    problem: str


def find_people(
    client: PoseClient, files: Iterable[ImageFile], in_flight: int
) -> Iterator[Found | Refused]:
    """The answer for each file, in order; a refused file does not stop the others.

    Raises:
        ClientError: the server is gone, busy or too slow.
    """
    return map_in_order(partial(_find, client), files, in_flight)


def _find(client: PoseClient, file: ImageFile) -> Found | Refused:
    try:
        data = file.read(client.spec.limits.max_bytes)
        poses = client.infer(data)
    except FileError as error:
        return Refused(file, str(error))
    except RequestRejected as error:
        return Refused(file, one_line(file, error))
    return Found(file, data, replace(poses, image=replace(poses.image, id=file.name)))


def one_line(file: ImageFile, error: PoseError) -> str:
    return f"{file.path}: {error}"
