"""The Locust users: one image after the other, over gRPC or HTTP.

Locust has patched the process for gevent by the time this is imported, and `senders` makes gRPC
obey it. Each user closes its sender in `on_stop`: a channel left open hangs Locust at its exit.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from locust import User, constant, task

from bodypose_client.wire.access import Access
from bodypose_client.wire.address import DEFAULT_URLS, Address, Protocol
from bodypose_loadtest.errors import PlanError
from bodypose_loadtest.images import load_images

from .bodies import Body, request_body
from .senders import open_sender

_TIMEOUT_S = 30.0


class RequestFailed(Exception):
    """Named by the kind of error, so that Locust counts each kind apart."""


class PoseUser(User):
    """Asks for the people of random images; subclasses say over which protocol.

    `--host` counts for the users whose protocol it names; the others ask `tools serve`'s port.
    """

    abstract = True
    protocol: Protocol
    wait_time = constant(0)

    def on_start(self) -> None:
        options = self.environment.parsed_options
        address = self._address()
        self._sender = open_sender(address, Access(), _TIMEOUT_S, connections=1)
        self._bodies = bodies_for(address, getattr(options, "images", ""))
        self._model = address.model

    def on_stop(self) -> None:
        self._sender.close()

    @task
    def find_people(self) -> None:
        body = random.choice(self._bodies)
        start = time.perf_counter()
        kind = self._sender.send(body)
        self.environment.events.request.fire(
            request_type=self.protocol.value,
            name=self._model,
            response_time=(time.perf_counter() - start) * 1000,
            response_length=0,
            exception=RequestFailed(kind) if kind else None,
            context={},
        )

    def _address(self) -> Address:
        host = self.host or ""
        if host and Address.parse(host).protocol is self.protocol:
            return Address.parse(host)
        return Address.parse(DEFAULT_URLS[self.protocol])


class PoseGrpcUser(PoseUser):
    """KServe v2 over gRPC."""

    protocol = Protocol.GRPC


class PoseHttpUser(PoseUser):
    """KServe v2 over HTTP, with the binary tensor extension."""

    protocol = Protocol.HTTP


@cache
def bodies_for(address: Address, folder: str) -> Sequence[Body]:
    """The requests of a folder's images, or of generated ones, built once in a process."""
    return [request_body(address, image) for image in encoded_images(folder)]


def prepare(folder: str, users: Sequence[type[PoseUser]]) -> None:
    """Make the images, and load what builds requests, so that users begin to send at once."""
    image = encoded_images(folder)[0]
    for protocol in {user.protocol for user in users}:
        request_body(Address.parse(DEFAULT_URLS[protocol]), image)


@cache
def encoded_images(folder: str) -> Sequence[bytes]:
    """A folder's images, or generated ones for "", made once in a process.

    Raises:
        PlanError: it is not a folder.
    """
    if folder and not Path(folder).is_dir():
        raise PlanError(f"--images: expected a folder, got {folder}")
    with tempfile.TemporaryDirectory(prefix="pose-load-images-") as work:
        images = load_images(Path(folder) if folder else None, Path(work), seed=0)
        return [image.path.read_bytes() for image in images]


def percentile_bucket(response_time_ms: float) -> float:
    """Locust's percentiles to a tenth of a millisecond; its own are to 10 ms beyond 100."""
    return round(response_time_ms, 1)
