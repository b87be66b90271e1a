"""`AsyncPoseClient`: `PoseClient` for event loops, under the same names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType

from bodypose_client.wire.access import Access, Tls
from bodypose_client.wire.address import DEFAULT_URLS, Address, Protocol
from bodypose_client.wire.connect import Connect, connect_asyncio
from bodypose_client.wire.connection import ServerInfo
from bodypose_client.wire.listener import explained
from bodypose_client.wire.retries import Retries
from bodypose_client.wire.shared_memory import SharedMemory
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import PipelineSpec

from .errors import ClientError
from .formats import ServedModel
from .image_bytes import Image
from .in_flight import map_in_order_asyncio
from .results import ImagePoses
from .session import DEFAULT_IN_FLIGHT, DEFAULT_TIMEOUT_S, Session, Settings, Waiting, read_image


class AsyncPoseClient:
    """Finds people through a running server, in the event loop that enters it.

        async with AsyncPoseClient("grpc://127.0.0.1:8001/bodypose") as client:
            poses = await client.infer("photo.jpg")
            async for poses in client.infer_stream(paths):
                ...

    Options, images and errors are those of `PoseClient`; connecting happens at `async with`.
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
        connect: Connect = connect_asyncio,
    ) -> None:
        access = Access.of(tls, token, headers)
        self._settings = Settings(Address.parse(url), access, timeout_s, retries, shared_memory)
        self._waiting = Waiting(connect, asyncio.sleep, _read_elsewhere, _explained_elsewhere)
        self._opened: Session | None = None

    @property
    def address(self) -> Address:
        """The server and model that are asked."""
        return self._settings.address

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

    async def infer(
        self, image: Image, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> ImagePoses:
        """The people of one image, best first, in its own pixels."""
        batch = await self.infer_batch([image], timeout_s=timeout_s, traceparent=traceparent)
        return batch[0]

    async def infer_batch(
        self,
        images: Sequence[Image],
        *,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> list[ImagePoses]:
        """The people of each image, in one request."""
        return await self._session.infer_batch(images, timeout_s, traceparent)

    def infer_stream(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        in_flight: int = DEFAULT_IN_FLIGHT,
        *,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> AsyncIterator[ImagePoses]:
        """The people of each image, in order, one request each, `in_flight` of them at a time."""
        ask = partial(self.infer, timeout_s=timeout_s, traceparent=traceparent)
        return map_in_order_asyncio(ask, images, in_flight)

    async def inspect(self) -> ServerInfo:
        """The server's name, version, and what each of its models has done so far."""
        return await self._session.inspect()

    async def close(self) -> None:
        """Close the connection; later calls raise `ClientClosed`. Closing twice is fine."""
        if self._opened:
            await self._opened.close()

    async def __aenter__(self) -> AsyncPoseClient:
        self._opened = await Session.open(self._settings, self._waiting)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncPoseClient({str(self.address)!r})"

    @property
    def _session(self) -> Session:
        if self._opened is None:
            raise RuntimeError("AsyncPoseClient connects in `async with`: enter it first")
        return self._opened


async def _explained_elsewhere(error: ClientError, address: Address) -> ClientError:
    return await asyncio.to_thread(explained, error, address)


async def _read_elsewhere(image: Image, spec: PipelineSpec) -> bytes:
    """Files and pixels are read in a thread, so that the event loop goes on."""
    if isinstance(image, bytes):
        return image
    return await asyncio.to_thread(read_image, image, spec)
