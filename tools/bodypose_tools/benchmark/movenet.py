"""Owns MoveNet MultiPose's answers as COCO results, to compare its AP with ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_client.scoring.coco_eval import CocoMetrics, annotated_sigmas, evaluate_results
from bodypose_tools.data.coco import network_view, read_coco
from pose_runtime.letterbox import Letterbox

from .conditions import Pixels, Setting
from .networks import Graph

SIDE = 384  # of the longer side of the input
_JOINTS = 17
_COCO_SHIFT = 0.5  # COCO counts from the first pixel's centre, we from its corner


def input_hw() -> tuple[int, int]:
    """4 : 3 at `SIDE` pixels, as our own input: multiples of 32, as MoveNet wants."""
    return SIDE * 3 // 4, SIDE


def people(network: Graph, pixels: Pixels) -> NDArray[np.float32]:
    """(6, 56) of one image (H, W, 3): y, x, score of 17 joints in 0..1, a box, a score."""
    (found,) = network(pixels[None].astype(np.int32))
    return np.array(found[0])


def average_precision(
    setting: Setting, network: Graph, annotations: Path, images: Path
) -> CocoMetrics:
    """COCO's numbers of MoveNet on a split, on letterboxed images as ours."""
    spec = setting.spec
    records = read_coco(annotations, images, spec.skeleton)
    entries: list[dict[str, Any]] = []
    for record in records:
        pixels, letterbox = network_view(record, input_hw(), spec.limits)
        found = people(network, pixels)
        entries += [_entry(person, letterbox, record.image_id) for person in found]
    ids = [record.image_id for record in records]
    return evaluate_results(annotations, entries, ids, annotated_sigmas(spec.skeleton))


def _entry(person: NDArray[np.float32], letterbox: Letterbox, image_id: int) -> dict[str, Any]:
    joints = person[: 3 * _JOINTS].reshape(_JOINTS, 3)
    network_xy = joints[:, 1::-1] * np.array(input_hw()[::-1], np.float32)
    image_xy = letterbox.to_image(network_xy) - _COCO_SHIFT
    triplets = np.concatenate([image_xy, joints[:, 2:]], axis=1)
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": triplets.ravel().astype(float).tolist(),
        "score": float(person[-1]),
    }
