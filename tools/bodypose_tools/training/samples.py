"""Training samples: images and people become augmented pixels, fields and masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.coco import DatasetError, ImageRecord, unreadable
from bodypose_tools.data.labels import (
    LabelSettings,
    draw_affinity,
    draw_centres,
    draw_heatmaps,
    forget_unlabelled,
    loss_mask,
)
from bodypose_tools.networks.fields import STRIDE
from pose_runtime.errors import ImageError
from pose_runtime.images import decode_image
from pose_runtime.letterbox import PADDING, Letterbox
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import ImageLimits

from .spec import AugmentationConfig

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# People of an image whose offsets are learned; further people only have fields.
MAX_LABELLED_PEOPLE = 30


class Targets(NamedTuple):
    """What a network should predict for one image, or for a batch of them.

    heatmaps: (h, w, J + 2), the joints, the background, the centres of people; `UNKNOWN` where a
              person has a joint without a label.
    affinity: (h', w', 2L), part affinity fields.
    mask:     (h', w', 1), 0 where the annotation is incomplete.
    people:   (MAX_LABELLED_PEOPLE, J + 1, 3), x, y in network pixels and > 0 where labelled: a
              person's centre, then the joints; unused rows are 0.
    """

    heatmaps: Any
    affinity: Any
    mask: Any
    people: Any


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """The settings that a training sample depends on, besides image and seed."""

    skeleton: Skeleton
    network_hw: tuple[int, int]
    labels: LabelSettings
    augmentation: AugmentationConfig

    @property
    def target_shapes(self) -> Targets:
        """Shapes of one image's targets."""
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
        raise unreadable(record, error) from error


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
    unlabelled = joints[:, :, 2] <= 0
    joints[_outside(joints, settings.network_hw)] = 0
    centres = _centres(matrix, record.boxes)
    centres[_outside(centres, settings.network_hw)] = 0
    return np.asarray(pixels, np.uint8), _targets(
        joints, unlabelled, centres, matrix, record, settings
    )


def _targets(
    joints: Floats,
    unlabelled: NDArray[np.bool_],
    centres: Floats,
    matrix: NDArray[np.float64],
    record: ImageRecord,
    settings: SampleSettings,
) -> Targets:
    skeleton, hw, labels = settings.skeleton, settings.network_hw, settings.labels
    heatmaps = draw_heatmaps(joints, skeleton, hw, labels)
    affinity = draw_affinity(joints, skeleton, hw, labels)
    mask = loss_mask(_moved_boxes(matrix, record.ignored_boxes), heatmaps, affinity)
    forget_unlabelled(heatmaps, unlabelled, _moved_boxes(matrix, record.boxes), hw)
    heatmaps = np.concatenate([heatmaps, draw_centres(centres, hw, labels)], axis=2)
    people = np.zeros(settings.target_shapes.people, np.float32)
    labelled = np.concatenate([centres[:, None], joints], axis=1)[: len(people)]
    people[: len(labelled)] = labelled
    return Targets(heatmaps, affinity, mask, people)


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
    """(N, 3): the centres of (N, 4) boxes in network pixels, each with a 1."""
    centres = _apply(matrix, boxes[:, :2] + boxes[:, 2:] / 2)
    return np.concatenate([centres, np.ones((len(boxes), 1), np.float32)], axis=1)


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
