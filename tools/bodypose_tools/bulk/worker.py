"""A worker: finds the people of whole parts, by a network of its own or through a server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2

from bodypose_client.in_flight import map_in_order
from bodypose_client.pose_client import PoseClient
from bodypose_tools.runtimes.people import IMAGE_ERRORS, Encoded, Found, people_in
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import Skeleton

from .jobs import Job, Server, client_of
from .part_files import Counts, load_writer, part_path, write_part
from .settings import BulkError
from .sources import Part

Find = Callable[[Iterable[Encoded]], Iterator[Found]]


@dataclass(frozen=True, slots=True)
class Done:
    """A part that was written, or why none will be: then the run ends.

    began, ended: seconds since 1970.
    cpu_s: processor time of all threads of the worker.
    worker: its process.
    """

    number: int
    counts: Counts
    began: float
    ended: float
    cpu_s: float
    worker: int
    failure: str | None = None


class Worker:
    """Opens the network or the connection once, then takes part after part.

    What fails is told by `Done.failure`, as errors do not cross every border between processes.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._failure: str | None = None
        load_writer()
        # OpenCV's other threads wait for more work by spinning, on the other workers' cores.
        cv2.setNumThreads(1)
        try:
            self._find, self._skeleton = _opened(job)
        except PoseError as error:
            self._failure = str(error)

    def __call__(self, part: Part) -> Done:
        began, cpu_began_s = time.time(), time.process_time()
        counts, failure = Counts(), self._failure
        if failure is None:
            try:
                origin = self._job.origin(part)
                path = part_path(self._job.folder, part.number)
                counts = write_part(path, self._find(part.images()), origin, self._skeleton)
            except PoseError as error:
                failure = str(error)
        cpu_s = time.process_time() - cpu_began_s
        return Done(part.number, counts, began, time.time(), cpu_s, os.getpid(), failure)


def _opened(job: Job) -> tuple[Find, Skeleton]:
    if isinstance(job.by, Server):
        client = client_of(job.by)
        _refuse_other_model(job, client.model.sha256)
        return partial(_served, client, job.by.in_flight), client.skeleton
    network = job.by
    predict, spec, artifact = open_predictor(network.model, network.runtime, network.threads)
    _refuse_other_model(job, artifact.sha256)
    find = partial(
        people_in, predict=predict, spec=spec, batch=network.batch, decoders=network.decoders
    )
    return find, spec.skeleton


def _served(client: PoseClient, in_flight: int, images: Iterable[Encoded]) -> Iterator[Found]:
    def ask(image: Encoded) -> Found:
        data = b""
        try:
            data = image.read()
            poses = client.infer(data)
        except IMAGE_ERRORS as error:
            return Found(image.name, data, None, None, error)
        return Found(image.name, data, poses, (poses.image.height, poses.image.width))

    return map_in_order(ask, images, in_flight)


def _refuse_other_model(job: Job, sha256: str) -> None:
    if sha256 != job.model_sha256:
        raise BulkError(
            f"{job.model}: expected the network {job.model_sha256[:12]} that the run began with,"
            f" got {sha256[:12]}"
        )
