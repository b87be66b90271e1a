"""`PoseClient`: images in, `ImagePoses` out, through a running server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType

from bodypose_client.wire.access import Access, Tls
from bodypose_client.wire.address import DEFAULT_URLS, Address, Protocol
from bodypose_client.wire.connect import Connect, connect
from bodypose_client.wire.connection import ServerInfo
from bodypose_client.wire.listener import explained
from bodypose_client.wire.retries import Retries
from bodypose_client.wire.shared_memory import SharedMemory
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import PipelineSpec

from .blocking import as_coroutine, run
from .formats import ServedModel
from .image_bytes import Image
from .in_flight import map_in_order
from .results import ImagePoses
from .session import DEFAULT_IN_FLIGHT, DEFAULT_TIMEOUT_S, Session, Settings, Waiting, read_image


class PoseClient:
    """Finds people through a running server. Any thread may use it.

    Skeleton, tensor names and thresholds come from the server's model config, so the client cannot
    disagree with the server about them.

        with PoseClient("grpc://127.0.0.1:8001/bodypose") as client:
            poses = client.infer("photo.jpg")

    An image is a path, the bytes of a JPEG, PNG, WebP or BMP file, RGB pixels (height, width, 3)
    uint8, or a PIL image.
    """

    def __init__(
        self,
        url: str = DEFAULT_URLS[Protocol.GRPC],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries = Retries(),  # noqa: B008  frozen
        shared_memory: SharedMemory = SharedMemory.OFF,
        tls: Tls | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        connect: Connect = connect,
    ) -> None:
        """Connect and learn the pipeline from the server.

        Args:
            url: `grpc://host:port/model/version` or `http://...`, encrypted `grpcs://` or
                `https://`; only the protocol and host are needed.
            timeout_s: longest wait for one call's answer, all tries together.
            retries: how often to ask again when nobody answers or the queue is full.
            shared_memory: how images reach a server on this host.
            tls: certificate files for `grpcs://` and `https://`.
            token: sent as `authorization: Bearer ...`.
            headers: sent with every request.
            connect: opens the connection; a test passes its own.

        Raises:
            ClientError: no such server, or no pose model there.
        """
        access = Access.of(tls, token, headers)
        settings = Settings(Address.parse(url), access, timeout_s, retries, shared_memory)
        waiting = Waiting(
            connect, as_coroutine(time.sleep), as_coroutine(read_image), as_coroutine(explained)
        )
        self._session = run(Session.open(settings, waiting))

    @property
    def address(self) -> Address:
        """The server and model that are asked."""
        return self._session.settings.address

    @property
    def spec(self) -> PipelineSpec:
        """The served pipeline: tensors, limits, thresholds, as the server describes them."""
        return self._session.spec

    @property
    def skeleton(self) -> Skeleton:
        """The joints and limbs of the served model, in the order of `keypoints`."""
        return self._session.skeleton

    @property
    def model(self) -> ServedModel:
        """Name, version and network of the served model."""
        return self._session.model

    def infer(
        self, image: Image, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> ImagePoses:
        """The people of one image, best first, in its own pixels.

        Args:
            image: in any of the forms above.
            timeout_s: instead of the client's.
            traceparent: the caller's W3C trace context; None starts a new trace.

        Raises:
            FileError: the path cannot be read.
            RequestRejected: the server does not accept this image.
            ClientError: the server does not answer.
        """
        return self.infer_batch([image], timeout_s=timeout_s, traceparent=traceparent)[0]

    def infer_batch(
        self,
        images: Sequence[Image],
        *,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> list[ImagePoses]:
        """The people of each image, in one request.

        The server answers all of them or none, and limits their number; `infer_stream` does not.
        """
        return run(self._session.infer_batch(images, timeout_s, traceparent))

    def infer_stream(
        self,
        images: Iterable[Image],
        in_flight: int = DEFAULT_IN_FLIGHT,
        *,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> Iterator[ImagePoses]:
        """The people of each image, in order, one request each, `in_flight` of them at a time.

        `images` may be endless: it is read as answers are taken.
        """
        ask = partial(self.infer, timeout_s=timeout_s, traceparent=traceparent)
        return map_in_order(ask, images, in_flight)

    def inspect(self) -> ServerInfo:
        """The server's name, version, and what each of its models has done so far."""
        return run(self._session.inspect())

    def close(self) -> None:
        """Close the connection; later calls raise `ClientClosed`. Closing twice is fine."""
        run(self._session.close())

    def __enter__(self) -> PoseClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PoseClient({str(self.address)!r})"
