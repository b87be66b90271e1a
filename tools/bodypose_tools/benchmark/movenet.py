"""MoveNet MultiPose's people as COCO results, for a comparison of AP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_client.scoring.annotations import people_of
from bodypose_client.scoring.coco_eval import CocoMetrics, annotated_sigmas, evaluate_results
from bodypose_tools.data.coco import network_view, read_coco
from pose_runtime.letterbox import Letterbox

from .conditions import Pixels, Setting
from .networks import Graph

SIDE = 384  # pixels of the longer side of the input
_JOINTS = 17
_COCO_SHIFT = 0.5  # COCO's origin is the centre of the first pixel, ours is its corner


def input_hw() -> tuple[int, int]:
    """Height and width of MoveNet's input: 4 : 3 as our own, in multiples of 32."""
    return SIDE * 3 // 4, SIDE


def people(network: Graph, pixels: Pixels) -> NDArray[np.float32]:
    """People in one image (H, W, 3): (6, 56).

    Each row has y, x and score of 17 joints in 0..1, a box and a score.
    """
    (found,) = network(pixels[None].astype(np.int32))
    return np.array(found[0])


def average_precision(
    setting: Setting, network: Graph, annotations: Path, images: Path
) -> CocoMetrics:
    """COCO's numbers of MoveNet on a split, on images letterboxed as ours."""
    spec = setting.spec
    records = read_coco(annotations, images, spec.skeleton)
    entries: list[dict[str, Any]] = []
    for record in records:
        pixels, letterbox = network_view(record, input_hw(), spec.limits)
        found = people(network, pixels)
        entries += [_entry(person, letterbox, record.image_id) for person in found]
    ids = [record.image_id for record in records]
    content = people_of(annotations, spec.skeleton)
    return evaluate_results(content, entries, ids, annotated_sigmas(spec.skeleton))


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
