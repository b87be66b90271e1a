"""Owns `PoseClient`: images in, `Poses` out, through a running server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import ContractError
from pose_runtime.poses import Poses, unpack_poses
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import PipelineSpec, TensorSpec

from .address import DEFAULT_URLS, Address, Protocol
from .errors import NotAPoseModel
from .image_bytes import Image, image_bytes
from .in_flight import map_in_order
from .retries import Retries, with_retries
from .transport import PIPELINE_PARAMETER, Connect, Model, ModelInfo, Tensors, connect

DEFAULT_TIMEOUT_S = 10.0
DEFAULT_IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Which model answers."""

    name: str
    version: str
    sha256: str  # of the network, from its PipelineSpec


class PoseClient:
    """Finds people through a running server. Any thread may use it.

    Skeleton, tensor names and thresholds come from the server's model config, so the client cannot
    disagree with the server about them.

        with PoseClient("grpc://127.0.0.1:8001/bodypose") as client:
            poses = client.infer("photo.jpg")

    An image is a path, the bytes of a JPEG, PNG, WebP or BMP file, or RGB pixels (height, width, 3)
    uint8.
    """

    def __init__(
        self,
        url: str = DEFAULT_URLS[Protocol.GRPC],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries = Retries(),  # noqa: B008  frozen
        connect: Connect = connect,
    ) -> None:
        """Connect and learn the pipeline from the server.

        Args:
            url: `grpc://host:port/model/version` or `http://...`; only the protocol and host are
                needed.
            timeout_s: longest wait for one answer.
            retries: how often to ask again when nobody answers or the queue is full.
            connect: opens the connection; a test passes its own.

        Raises:
            ClientError: no such server, or no pose model there.
        """
        self.address = Address.parse(url)
        self._model = Model(self.address.model, self.address.version)
        self._connection = connect(self.address, timeout_s)
        try:
            info = self._connection.describe(self._model)
            self.spec = _spec_in(info, self.address)
        except BaseException:
            self._connection.close()
            raise
        self._versions = info.versions
        self._infer = with_retries(self._connection.infer, retries)

    @property
    def skeleton(self) -> Skeleton:
        return self.spec.skeleton

    @property
    def model(self) -> ServedModel:
        version = self._model.version or (self._versions[-1] if self._versions else "")
        return ServedModel(self._model.name, version, self.spec.model_sha256)

    def infer(self, image: Image) -> Poses:
        """The people of one image, best first, in its own pixels.

        Raises:
            FileError: the path cannot be read.
            RequestRejected: the server does not accept this image.
            ClientError: the server does not answer.
        """
        return self.infer_batch([image])[0]

    def infer_batch(self, images: Sequence[Image]) -> list[Poses]:
        """The people of each image, in one request.

        The server answers all of them or none, and limits their number; `infer_stream` does not.
        """
        if not images:
            return []
        payload = np.empty((len(images), *self.spec.image.dims), np.object_)
        payload[:, 0] = [image_bytes(image, self.spec.limits) for image in images]
        outputs = self._infer(self._model, {self.spec.image.name: payload})
        rows = zip(
            *(
                _read(outputs, tensor, len(images))
                for tensor in (self.spec.keypoints, self.spec.scores, self.spec.num_people)
            ),
            strict=True,
        )
        return [unpack_poses(*row) for row in rows]

    def infer_stream(
        self, images: Iterable[Image], in_flight: int = DEFAULT_IN_FLIGHT
    ) -> Iterator[Poses]:
        """The people of each image, in order, one request each, `in_flight` of them at a time.

        `images` may be endless: it is read as answers are taken.
        """
        return map_in_order(self.infer, images, in_flight)

    def close(self) -> None:
        self._connection.close()

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


def _spec_in(info: ModelInfo, address: Address) -> PipelineSpec:
    text = info.parameters.get(PIPELINE_PARAMETER)
    if text is None:
        raise NotAPoseModel(
            f"{address}: expected parameter {PIPELINE_PARAMETER!r} in the model's config, got"
            f" {sorted(info.parameters)}; ask the ensemble, or run `tools build-repo` again"
        )
    return PipelineSpec.from_json(text)


def _read(outputs: Tensors, tensor: TensorSpec, count: int) -> NDArray[np.float32]:
    if tensor.name not in outputs:
        raise ContractError(tensor.name, "an output of the model", f"only {sorted(outputs)}")
    array = tensor.check(outputs[tensor.name])
    if len(array) != count:
        raise ContractError(tensor.name, f"{count} rows, one for each image", f"{len(array)}")
    return array
