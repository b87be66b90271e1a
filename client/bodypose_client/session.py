"""What both clients share: an open connection to one model, its requests and answers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_client.wire.access import Access
from bodypose_client.wire.address import Address
from bodypose_client.wire.connect import Connect
from bodypose_client.wire.connection import (
    PIPELINE_PARAMETER,
    Connection,
    Model,
    ModelInfo,
    Request,
    ServerInfo,
    Tensors,
    WarmUp,
)
from bodypose_client.wire.deadline import Deadline
from bodypose_client.wire.retries import Retries, Sleep, with_retries
from bodypose_client.wire.shared_memory import SharedInputs, SharedMemory
from bodypose_client.wire.trace import HEADER as TRACE_HEADER
from bodypose_client.wire.trace import check_traceparent, new_traceparent
from pose_runtime.errors import ContractError, ImageError
from pose_runtime.poses import unpack_poses
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import PipelineSpec, TensorSpec

from .errors import (
    AccessDenied,
    ClientClosed,
    ClientError,
    ModelNotFound,
    NotAPoseModel,
    RequestRejected,
)
from .formats import ImageInfo, ServedModel
from .image_bytes import Image, image_bytes
from .results import ImagePoses

DEFAULT_TIMEOUT_S = 10.0
DEFAULT_IN_FLIGHT = 4
_CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a caller chose."""

    address: Address
    access: Access
    timeout_s: float
    retries: Retries
    shared_memory: SharedMemory


@dataclass(frozen=True, slots=True)
class Waiting:
    """How one kind of client waits: blocking, or in an event loop."""

    connect: Connect
    sleep: Sleep
    read: Callable[[Image, PipelineSpec], Awaitable[bytes]]
    explain: Callable[[ClientError, Address], Awaitable[ClientError]]


def read_image(image: Image, spec: PipelineSpec) -> bytes:
    return image_bytes(image, spec.limits)


class Session:
    """An open connection to one pose model, and what the server said about it."""

    def __init__(
        self, settings: Settings, waiting: Waiting, connection: Connection, info: ModelInfo
    ) -> None:
        self.settings = settings
        self.spec = _spec_in(info, settings.address)
        self._waiting = waiting
        self._connection = connection
        self._model = Model(settings.address.model, settings.address.version)
        version = self._model.version or (info.versions[-1] if info.versions else "")
        self.model = ServedModel(self._model.name, version, self.spec.model_sha256)
        self._closed = False
        self._warm_ups: dict[Model, WarmUp] = {}
        self._shared = None
        transport = connection.infer
        if settings.shared_memory is SharedMemory.SYSTEM:
            self._shared = SharedInputs(connection, settings.address)
            transport = self._shared.infer
        self._infer = with_retries(transport, settings.retries, waiting.sleep)

    @classmethod
    async def open(cls, settings: Settings, waiting: Waiting) -> Session:
        """Connect and learn the pipeline from the server.

        Raises:
            ClientError: no such server, no pose model there, or no shared memory.
        """
        connection = waiting.connect(settings.address, settings.access)
        deadline = Deadline.after(settings.timeout_s)
        try:
            model = Model(settings.address.model, settings.address.version)
            info = await connection.describe(model, deadline)
            session = cls(settings, waiting, connection, info)
            if session._shared:
                await session._shared.check(deadline)
        except BaseException as error:
            await connection.close()
            if isinstance(error, ClientError):
                raise await waiting.explain(error, settings.address) from error
            raise
        return session

    @property
    def skeleton(self) -> Skeleton:
        return self.spec.skeleton

    async def infer_batch(
        self, images: Sequence[Image], timeout_s: float | None, traceparent: str | None
    ) -> list[ImagePoses]:
        if self._closed:
            raise ClientClosed(str(self.settings.address))
        if not images:
            return []
        deadline = Deadline.after(self.settings.timeout_s if timeout_s is None else timeout_s)
        trace = check_traceparent(traceparent) if traceparent else new_traceparent()
        files = [await self._waiting.read(image, self.spec) for image in images]
        payload = np.empty((len(files), *self.spec.image.dims), np.object_)
        payload[:, 0] = files
        started = time.perf_counter()
        outputs = await self._infer(
            Request(self._model, {self.spec.image.name: payload}, deadline, {TRACE_HEADER: trace})
        )
        timing_ms = {"request": (time.perf_counter() - started) * 1000}
        rows = self._rows(outputs, len(files))
        return [self._poses(*each, timing_ms) for each in zip(images, files, rows, strict=True)]

    async def inspect(self) -> ServerInfo:
        deadline = Deadline.after(self.settings.timeout_s)
        server = await self._connection.inspect(deadline)
        models = [
            model.without(await self._warm_up(Model(model.name, model.version), deadline))
            for model in server.models
        ]
        return replace(server, models=tuple(models))

    async def _warm_up(self, model: Model, deadline: Deadline) -> WarmUp:
        """Asked for once: a version's configuration stays as it is."""
        if model not in self._warm_ups:
            try:
                self._warm_ups[model] = (await self._connection.describe(model, deadline)).warm_up
            except (AccessDenied, ModelNotFound, RequestRejected):  # it keeps that to itself
                self._warm_ups[model] = WarmUp()
        return self._warm_ups[model]

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._shared:
            await self._shared.close(Deadline.after(_CLOSE_TIMEOUT_S))
        await self._connection.close()

    def _rows(self, outputs: Tensors, count: int) -> list[tuple[NDArray[Any], ...]]:
        tensors = (self.spec.keypoints, self.spec.scores, self.spec.num_people)
        return list(zip(*(_read(outputs, tensor, count) for tensor in tensors), strict=True))

    def _poses(
        self,
        image: Image,
        file: bytes,
        row: tuple[NDArray[Any], ...],
        timing_ms: dict[str, float],
    ) -> ImagePoses:
        poses = unpack_poses(*row)
        name = Path(image).name if isinstance(image, str | Path) else ""
        return ImagePoses(
            poses.keypoints, poses.scores, _info(name, file), self.skeleton, self.model, timing_ms
        )


def _info(name: str, file: bytes) -> ImageInfo:
    from pose_runtime.image_headers import image_size  # simplejpeg: not needed to connect

    try:
        height, width = image_size(file)
    except ImageError:  # the server accepts more formats than this client knows
        height, width = 0, 0
    return ImageInfo(name, width, height)


def _spec_in(info: ModelInfo, address: Address) -> PipelineSpec:
    text = info.parameters.get(PIPELINE_PARAMETER)
    if text is None:
        raise NotAPoseModel(
            f"{address}: expected parameter {PIPELINE_PARAMETER!r} in the model's config, got"
            f" {sorted(info.parameters)}; ask the ensemble, or run `tools build-repo` again"
        )
    return PipelineSpec.from_json(text)


def _read(outputs: Tensors, tensor: TensorSpec, count: int) -> NDArray[Any]:
    if tensor.name not in outputs:
        raise ContractError(tensor.name, "an output of the model", f"only {sorted(outputs)}")
    array = tensor.check(outputs[tensor.name])
    if len(array) != count:
        raise ContractError(tensor.name, f"{count} rows, one for each image", f"{len(array)}")
    return array
