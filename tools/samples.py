"""Owns the training input: images and people become augmented pixels, fields and masks.

Batches are made by worker processes that write into shared memory; which batch holds what depends
only on the seed, the epoch and the step, never on the number of workers or their speed.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import shared_memory
from typing import Any

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
from .labels import STRIDE, LabelSettings, draw_fields, loss_mask

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """All that decides what a training sample looks like."""

    skeleton: Skeleton
    network_hw: tuple[int, int]
    labels: LabelSettings
    augmentation: AugmentationConfig

    @property
    def field_hw(self) -> tuple[int, int]:
        return self.network_hw[0] // STRIDE, self.network_hw[1] // STRIDE


def make_sample(
    record: ImageRecord, settings: SampleSettings, rng: np.random.Generator
) -> tuple[Pixels, Floats]:
    """One augmented training sample.

    Returns:
        pixels (H, W, 3) uint8 and target (h, w, C + 1) float32: the fields and, last, the mask.

    Raises:
        DatasetError: the image cannot be read; the message names it.
    """
    image = _read_image(record)
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
    fields = draw_fields(joints, settings.skeleton, settings.field_hw, settings.labels)
    ignored = _moved_boxes(matrix, record.ignored_boxes)
    mask = loss_mask(ignored, fields, settings.skeleton.num_joints)
    return np.asarray(pixels, np.uint8), np.concatenate([fields, mask], axis=2)


class SampleStream:
    """Endless supply of training batches, in an order fixed by the seed.

    `batches` yields pixels (B, H, W, 3) uint8 and targets (B, h, w, C + 1) float16, which is half
    the memory and copying of float32 at a precision of 0.001. Use as a context manager: it owns
    processes and shared memory.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        settings: SampleSettings,
        *,
        batch_size: int,
        seed: int,
        workers: int,
    ) -> None:
        if len(records) < batch_size:
            raise DatasetError(
                f"training images: expected at least one batch of {batch_size}, got {len(records)}"
            )
        self._records = list(records)
        self._settings = settings
        self._batch_size = batch_size
        self._seed = seed
        self._workers = workers
        self.steps_per_epoch = len(records) // batch_size
        self._slots = 2 * workers + 2
        hw, field_hw = settings.network_hw, settings.field_hw
        self._pixels_shape = (self._slots, batch_size, *hw, 3)
        channels = settings.skeleton.num_fields + 1
        self._target_shape = (self._slots, batch_size, *field_hw, channels)

    def __enter__(self) -> SampleStream:
        pixel_bytes = math.prod(self._pixels_shape)
        target_bytes = 2 * math.prod(self._target_shape)
        self._memory = shared_memory.SharedMemory(create=True, size=pixel_bytes + target_bytes)
        self._arrays = _arrays_in(self._memory, self._pixels_shape, self._target_shape)
        context = multiprocessing.get_context("spawn")
        self._tasks: Any = context.Queue()
        self._done: Any = context.Queue()
        self._processes = [
            context.Process(
                target=_work,
                args=(
                    self._memory.name,
                    self._pixels_shape,
                    self._target_shape,
                    self._records,
                    self._settings,
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

    def batches(self, first_epoch: int = 0) -> Iterator[tuple[Pixels, Halves]]:
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
                number, slot, error = self._done.get()
                if error is not None:
                    raise DatasetError(error)
                ready[number] = slot
            slot = ready.pop(wanted)
            batch = self._arrays[0][slot].copy(), self._arrays[1][slot].copy()
            self._ask(wanted + self._slots, slot)
            wanted += 1
            yield batch

    def _ask(self, number: int, slot: int) -> None:
        epoch, step = divmod(number, self.steps_per_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._records))
        chosen = order[step * self._batch_size : (step + 1) * self._batch_size]
        self._tasks.put((number, slot, chosen.tolist()))


def _work(
    memory_name: str,
    pixels_shape: tuple[int, ...],
    target_shape: tuple[int, ...],
    records: list[ImageRecord],
    settings: SampleSettings,
    seed: int,
    tasks: Any,
    done: Any,
) -> None:
    """A worker process: fills the slots it is told to fill, until it is terminated."""
    cv2.setNumThreads(1)
    memory = shared_memory.SharedMemory(name=memory_name)
    pixels, target = _arrays_in(memory, pixels_shape, target_shape)
    while True:
        number, slot, chosen = tasks.get()
        error = None
        for row, index in enumerate(chosen):
            rng = np.random.default_rng([seed, number, row])
            try:
                pixels[slot, row], target[slot, row] = make_sample(records[index], settings, rng)
            except DatasetError as problem:
                error = str(problem)
        done.put((number, slot, error))


def _arrays_in(
    memory: shared_memory.SharedMemory,
    pixels_shape: tuple[int, ...],
    target_shape: tuple[int, ...],
) -> tuple[Pixels, Halves]:
    pixels: Pixels = np.ndarray(pixels_shape, np.uint8, memory.buf)
    target: Halves = np.ndarray(target_shape, np.float16, memory.buf, offset=pixels.nbytes)
    return pixels, target


def _read_image(record: ImageRecord) -> Pixels:
    try:
        return decode_image(record.path.read_bytes(), ImageLimits())
    except (OSError, ImageError) as error:
        raise DatasetError(f"image {record.image_id} ({record.path}): {error}") from error


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


def _outside(joints: Floats, network_hw: tuple[int, int]) -> NDArray[np.bool_]:
    x, y = joints[:, :, 0], joints[:, :, 1]
    inside = (x >= 0) & (y >= 0) & (x < network_hw[1]) & (y < network_hw[0])
    return np.asarray(~inside | (joints[:, :, 2] <= 0))


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
