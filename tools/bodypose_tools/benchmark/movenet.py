"""MoveNet MultiPose's people as COCO results, for a comparison of AP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.coco import ImageRecord, network_view
from pose_runtime.letterbox import Letterbox
from pose_runtime.spec import PipelineSpec

from .conditions import Pixels
from .networks import Graph

PEOPLE_SHAPE = (1, 6, 56)  # of the output
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


def results_of(
    records: Sequence[ImageRecord], network: Graph, spec: PipelineSpec
) -> list[dict[str, Any]]:
    """MoveNet's people as COCO result entries, on images letterboxed as ours."""
    entries = []
    for record in records:
        pixels, letterbox = network_view(record, input_hw(), spec.limits)
        found = people(network, pixels)
        entries += [_entry(person, letterbox, record.image_id) for person in found]
    return entries


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
