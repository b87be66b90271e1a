"""People in encoded images, found by a predictor: decoded, letterboxed, predicted, grouped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bodypose_client.errors import FileError, RequestRejected
from bodypose_client.in_flight import map_in_order
from pose_runtime.errors import ImageError, NotFinite, PoseError
from pose_runtime.grouping import people_in_image
from pose_runtime.images import network_pixels
from pose_runtime.letterbox import Letterbox
from pose_runtime.paths import ForeignPath
from pose_runtime.poses import Poses
from pose_runtime.spec import PipelineSpec

from .predictor import Predictor

# About one image; the others go on.
IMAGE_ERRORS: Final = (FileError, ForeignPath, ImageError, RequestRejected, NotFinite)

Item = TypeVar("Item")


class Encoded(Protocol):
    """An image that can be read when its turn comes."""

    @property
    def name(self) -> str: ...

    def read(self) -> bytes:
        """Raises: one of `IMAGE_ERRORS`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One image's people, or why there are none.

    data: the encoded image; empty where it could not be read.
    poses: every person; None with an `error`.
    image_hw: height and width after EXIF orientation; None where the image does not decode.
    """

    name: str
    data: bytes
    poses: Poses | None
    image_hw: tuple[int, int] | None
    error: PoseError | None = None


def people_in(
    images: Iterable[Encoded],
    predict: Predictor,
    spec: PipelineSpec,
    batch: int = 1,
    decoders: int = 0,
) -> Iterator[Found]:
    """Every image in its turn, bad ones with their error.

    Args:
        images: read as the answers are taken.
        predict: the network.
        spec: its pipeline.
        batch: number of images that the network gets at once; a GPU wants several.
        decoders: threads that read and decode ahead; 0: none, as suits a network on the same CPU.
    """

    def open_image(image: Encoded) -> _Opened:
        data = b""
        try:
            data = image.read()
            return _Opened(image.name, data, *network_pixels(data, spec.network_hw, spec.limits))
        except IMAGE_ERRORS as error:
            return _Opened(image.name, data, None, None, error)

    opened = map_in_order(open_image, images, decoders) if decoders else map(open_image, images)
    for together in _batches(opened, batch):
        yield from _found(together, predict, spec)


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    name: str
    data: bytes
    pixels: NDArray[np.uint8] | None
    letterbox: Letterbox | None
    error: PoseError | None = None


def _found(together: list[_Opened], predict: Predictor, spec: PipelineSpec) -> Iterator[Found]:
    pixels = [each.pixels for each in together if each.pixels is not None]
    answers = zip(*predict(np.stack(pixels)), strict=True) if pixels else iter(())
    for each in together:
        if each.letterbox is None:
            yield Found(each.name, each.data, None, None, each.error)
            continue
        peaks, limb_scores = next(answers)
        poses, error = None, None
        try:
            poses = people_in_image(peaks, limb_scores, each.letterbox.to_geometry(), spec)
        except NotFinite as caught:
            error = caught
        yield Found(each.name, each.data, poses, each.letterbox.image_hw, error)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    left = iter(items)
    while together := list(islice(left, size)):
        yield together
