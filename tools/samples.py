"""Owns the training input: images and people become augmented pixels, fields and masks.

Batches are made by worker processes that write into shared memory; which batch holds what depends
only on the seed, the epoch and the step, never on the number of workers or their speed.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import shared_memory
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import ImageError
from pose_runtime.images import PADDING, decode_image
from pose_runtime.letterbox import Letterbox
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import ImageLimits

from .config import AugmentationConfig
from .dataset import DatasetError, ImageRecord
from .image_cache import ImageCache
from .labels import (
    STRIDE,
    LabelSettings,
    draw_affinity,
    draw_centres,
    draw_heatmaps,
    loss_mask,
)

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Layout = list[tuple[tuple[int, ...], np.dtype[Any]]]

# People of an image whose offsets are learned; what is beyond them only has fields.
MAX_LABELLED_PEOPLE = 30

_PATIENCE_S = 5.0  # before a worker that says nothing is looked after


class Targets(NamedTuple):
    """What a network should say to one image, or to a batch of them.

    heatmaps: (h, w, J + 2), the joints, the background, the middles of people.
    affinity: (h', w', 2L), part affinity fields.
    mask:     (h', w', 1), 0 where the annotation says nothing.
    people:   (MAX_LABELLED_PEOPLE, J + 1, 3), x, y in network pixels and > 0 where labelled: a
              person's middle, then the joints; unused rows are 0.
    """

    heatmaps: Any
    affinity: Any
    mask: Any
    people: Any


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """All that decides what a training sample looks like."""

    skeleton: Skeleton
    network_hw: tuple[int, int]
    labels: LabelSettings
    augmentation: AugmentationConfig

    @property
    def target_shapes(self) -> Targets:
        """Of one image."""
        fine, coarse = (
            (self.network_hw[0] // stride, self.network_hw[1] // stride)
            for stride in (self.labels.heatmap_stride, STRIDE)
        )
        joints = self.skeleton.num_joints
        return Targets(
            (*fine, joints + 2),
            (*coarse, 2 * self.skeleton.num_limbs),
            (*coarse, 1),
            (MAX_LABELLED_PEOPLE, joints + 1, 3),
        )


def read_image(record: ImageRecord) -> Pixels:
    """A record's image (height, width, 3) from disk.

    Raises:
        DatasetError: it cannot be read; the message names it.
    """
    try:
        return decode_image(record.path.read_bytes(), ImageLimits())
    except (OSError, ImageError) as error:
        raise DatasetError(f"image {record.image_id} ({record.path}): {error}") from error


def make_sample(
    record: ImageRecord,
    settings: SampleSettings,
    rng: np.random.Generator,
    read: Callable[[ImageRecord], Pixels] = read_image,
) -> tuple[Pixels, Targets]:
    """One augmented training sample: pixels (H, W, 3) uint8 and float32 targets.

    Raises:
        DatasetError: the image cannot be read; the message names it.
    """
    image = read(record)
    if image.shape[:2] != record.image_hw:
        raise DatasetError(
            f"image {record.image_id} ({record.path}): expected {record.image_hw} as annotated, got"
            f" {image.shape[:2]} (height, width)"
        )
    matrix, flipped = _random_affine(record, settings, rng)
    pixels = cv2.warpAffine(
        image,
        _pixel_index_matrix(matrix),
        (settings.network_hw[1], settings.network_hw[0]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PADDING, PADDING, PADDING),
    )
    if not settings.augmentation.identity:
        pixels = _jitter_color(np.asarray(pixels, np.uint8), settings.augmentation, rng)
    joints = record.joints.copy()
    joints[:, :, :2] = _apply(matrix, joints[:, :, :2])
    if flipped:
        joints = joints[:, list(settings.skeleton.mirror)]
    joints[_outside(joints, settings.network_hw)] = 0
    centres = _centres(matrix, record.boxes)
    centres[_outside(centres, settings.network_hw)] = 0
    return np.asarray(pixels, np.uint8), _targets(joints, centres, matrix, record, settings)


def _targets(
    joints: Floats,
    centres: Floats,
    matrix: NDArray[np.float64],
    record: ImageRecord,
    settings: SampleSettings,
) -> Targets:
    skeleton, hw, labels = settings.skeleton, settings.network_hw, settings.labels
    heatmaps = draw_heatmaps(joints, skeleton, hw, labels)
    affinity = draw_affinity(joints, skeleton, hw, labels)
    mask = loss_mask(_moved_boxes(matrix, record.ignored_boxes), heatmaps, affinity)
    heatmaps = np.concatenate([heatmaps, draw_centres(centres, hw, labels)], axis=2)
    people = np.zeros(settings.target_shapes.people, np.float32)
    labelled = np.concatenate([centres[:, None], joints], axis=1)[: len(people)]
    people[: len(labelled)] = labelled
    return Targets(heatmaps, affinity, mask, people)


class SampleStream:
    """Endless supply of training batches, in an order fixed by the seed.

    `batches` yields pixels (B, H, W, 3) uint8 and `Targets`, whose fields are float16: half the
    memory and copying of float32 at a precision of 0.001. Use as a context manager: it owns
    processes and shared memory. Images stay on disk but for `cache_mib` of them; workers hold the
    batches that they fill, so that their memory does not grow with the data set.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        settings: SampleSettings,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        cache_mib: int = 0,
    ) -> None:
        if len(records) < batch_size:
            raise DatasetError(
                f"training images: expected at least one batch of {batch_size}, got {len(records)}"
            )
        self.records = list(records)
        self._settings = settings
        self._batch_size = batch_size
        self._seed = seed
        self._workers = workers
        self.steps_per_epoch = len(records) // batch_size
        self._slots = 2 * workers + 2
        self._layout = _layout(self._slots, batch_size, settings)
        self._cache = ImageCache([record.image_hw for record in records], cache_mib)

    def __enter__(self) -> SampleStream:
        self._cache.create()
        size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self._layout)
        self._memory = shared_memory.SharedMemory(create=True, size=size)
        self._arrays = _arrays_in(self._memory, self._layout)
        context = multiprocessing.get_context("spawn")
        self._tasks: Any = context.Queue()
        self._done: Any = context.Queue()
        self._processes = [
            context.Process(
                target=_work,
                args=(
                    self._memory.name,
                    self._layout,
                    self._settings,
                    self._cache,
                    self._seed,
                    self._tasks,
                    self._done,
                ),
                daemon=True,
            )
            for _ in range(self._workers)
        ]
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._tasks.cancel_join_thread()
        self._done.cancel_join_thread()
        del self._arrays
        self._memory.close()
        self._memory.unlink()
        self._cache.close()

    def batches(self, first_epoch: int = 0) -> Iterator[tuple[Pixels, Targets]]:
        """Batches from the first step of `first_epoch` on, for ever.

        Raises:
            DatasetError: an image of the batch cannot be read; the message names it.
        """
        wanted = first_epoch * self.steps_per_epoch
        for slot in range(self._slots):
            self._ask(wanted + slot, slot)
        ready: dict[int, int] = {}
        while True:
            while wanted not in ready:
                number, slot, error = self._next_done()
                if error is not None:
                    raise DatasetError(error)
                ready[number] = slot
            slot = ready.pop(wanted)
            pixels, *targets = (array[slot].copy() for array in self._arrays)
            self._ask(wanted + self._slots, slot)
            wanted += 1
            yield pixels, Targets(*targets)

    def _next_done(self) -> Any:
        while True:
            try:
                return self._done.get(timeout=_PATIENCE_S)
            except queue.Empty:
                codes = [process.exitcode for process in self._processes]
                if any(code is not None for code in codes):
                    raise DatasetError(
                        f"workers: expected all to run, got exit codes {codes}; with -9 the machine"
                        " has too little memory: lower workers"
                    ) from None

    def image_ids(self, epoch: int, step: int) -> list[int]:
        """Whose images a batch holds."""
        return [self.records[index].image_id for index in self._chosen(epoch, step)]

    def _chosen(self, epoch: int, step: int) -> list[int]:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self.records))
        chosen: list[int] = order[step * self._batch_size : (step + 1) * self._batch_size].tolist()
        return chosen

    def _ask(self, number: int, slot: int) -> None:
        chosen = self._chosen(*divmod(number, self.steps_per_epoch))
        self._tasks.put((number, slot, [(index, self.records[index]) for index in chosen]))


def _work(
    memory_name: str,
    layout: Layout,
    settings: SampleSettings,
    cache: ImageCache,
    seed: int,
    tasks: Any,
    done: Any,
) -> None:
    """A worker process: fills the slots it is told to fill, until it or its parent is ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    cache.attach()
    memory = shared_memory.SharedMemory(name=memory_name)
    pixels, *targets = _arrays_in(memory, layout)
    while True:
        number, slot, chosen = tasks.get()
        error = None
        for row, (index, record) in enumerate(chosen):
            rng = np.random.default_rng([seed, number, row])
            read = _cached(cache, index)
            try:
                pixels[slot, row], made = make_sample(record, settings, rng, read)
                for target, values in zip(targets, made, strict=True):
                    target[slot, row] = values
            except DatasetError as problem:
                error = str(problem)
        done.put((number, slot, error))


def _cached(cache: ImageCache, index: int) -> Callable[[ImageRecord], Pixels]:
    return lambda record: cache.image(index, lambda: read_image(record))


def _end_with_parent() -> None:
    """A killed trainer must not leave its workers behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _layout(slots: int, batch_size: int, settings: SampleSettings) -> Layout:
    """Shapes and types of the pixels and of each target, in shared memory one after the other."""
    shapes = settings.target_shapes
    batch = (slots, batch_size)
    return [
        ((*batch, *settings.network_hw, 3), np.dtype(np.uint8)),
        *(((*batch, *shape), np.dtype(np.float16)) for shape in shapes[:-1]),
        ((*batch, *shapes.people), np.dtype(np.float32)),
    ]


def _arrays_in(memory: shared_memory.SharedMemory, layout: Layout) -> list[NDArray[Any]]:
    arrays, offset = [], 0
    for shape, dtype in layout:
        array: NDArray[Any] = np.ndarray(shape, dtype, memory.buf, offset=offset)
        arrays.append(array)
        offset += array.nbytes
    return arrays


def _random_affine(
    record: ImageRecord, settings: SampleSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float64], bool]:
    """(3, 3) map from image to network pixels, and whether it mirrors."""
    letterbox = Letterbox.fit(record.image_hw, settings.network_hw)
    placed = np.array(
        [
            [letterbox.scale, 0, letterbox.offset_xy[0]],
            [0, letterbox.scale, letterbox.offset_xy[1]],
            [0, 0, 1],
        ],
        np.float64,
    )
    augmentation = settings.augmentation
    if augmentation.identity:
        return placed, False
    size = np.array(settings.network_hw[::-1], np.float64)
    centre = np.array(record.image_hw[::-1]) / 2
    if len(record.boxes) and rng.random() < augmentation.person_centric_prob:
        box = record.boxes[rng.integers(len(record.boxes))]
        centre = box[:2] + box[2:] / 2
    pivot = centre * letterbox.scale + letterbox.offset_xy
    zoom = math.exp(
        rng.uniform(math.log(augmentation.zoom_ratio_min), math.log(augmentation.zoom_ratio_max))
    )
    angle = math.radians(rng.uniform(-1, 1) * augmentation.rotate_deg_max)
    flipped = bool(rng.random() < augmentation.flip_lr_prob)
    target = size / 2 + rng.uniform(-1, 1, 2) * augmentation.translate_max * size
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ _shift(-pivot)
    mirror = np.diag([-1.0 if flipped else 1.0, 1.0, 1.0])
    matrix: NDArray[np.float64] = _shift(target) @ mirror @ turn @ placed
    return matrix, flipped


def _shift(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    matrix[:2, 2] = xy
    return matrix


def _pixel_index_matrix(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """OpenCV's (2, 3) form: it counts pixel centres from 0, we from 0.5."""
    half = np.array([0.5, 0.5])
    return np.asarray((_shift(-half) @ matrix @ _shift(half))[:2])


def _apply(matrix: NDArray[np.float64], points: Floats) -> Floats:
    return (points @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


def _centres(matrix: NDArray[np.float64], boxes: Floats) -> Floats:
    """(N, 3): the middles of (N, 4) boxes in network pixels, each with a 1."""
    middles = _apply(matrix, boxes[:, :2] + boxes[:, 2:] / 2)
    return np.concatenate([middles, np.ones((len(boxes), 1), np.float32)], axis=1)


def _outside(points: Floats, network_hw: tuple[int, int]) -> NDArray[np.bool_]:
    x, y = points[..., 0], points[..., 1]
    inside = (x >= 0) & (y >= 0) & (x < network_hw[1]) & (y < network_hw[0])
    return np.asarray(~inside | (points[..., 2] <= 0))


def _moved_boxes(matrix: NDArray[np.float64], boxes: Floats) -> Floats:
    """Axis-aligned boxes around the moved corners of (K, 4) boxes."""
    x, y, width, height = boxes.T
    corners = np.stack(
        [[x, y], [x + width, y], [x, y + height], [x + width, y + height]], axis=0
    ).transpose(2, 0, 1)
    moved = _apply(matrix, corners)
    low, high = moved.min(axis=1, initial=np.inf), moved.max(axis=1, initial=-np.inf)
    return np.concatenate([low, high - low], axis=1)


def _jitter_color(
    pixels: Pixels, augmentation: AugmentationConfig, rng: np.random.Generator
) -> Pixels:
    """Random brightness, contrast and saturation in one 3 x 3 colour transform."""
    spread = augmentation.color_jitter
    brightness, contrast, saturation = 1 + rng.uniform(-spread, spread, 3)
    if rng.random() < augmentation.gray_prob:
        saturation = 0.0
    luma = np.array([0.299, 0.587, 0.114])
    keep = saturation * np.eye(3) + (1 - saturation) * luma[None, :]
    transform = np.empty((3, 4))
    transform[:, :3] = keep * brightness * contrast
    transform[:, 3] = PADDING * (1 - contrast)
    return np.asarray(cv2.transform(pixels, transform.astype(np.float32)), np.uint8)
