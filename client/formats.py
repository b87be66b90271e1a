"""Owns the JSON forms of people: `bodypose/1`, this project's own, and OpenPose's.

COCO's results format is in `coco_eval.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose_runtime.poses import Poses

from .errors import AnnotationError
from .pose_client import ServedModel

# People below this score are not shown; evaluation keeps them all.
DISPLAY_MIN_SCORE = 0.15

SCHEMA = "bodypose/1"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Which image a record is about."""

    id: str
    width: int
    height: int


def image_record(
    poses: Poses, image: ImageInfo, model: ServedModel, timing_ms: Mapping[str, float]
) -> dict[str, Any]:
    """One image's people as `bodypose/1`.

    Coordinates are pixels of the image; a joint that was not found is [0, 0, 0]; `bbox` is x, y,
    width, height around the joints found. Floats are the shortest that read back as the same
    float32.
    """
    people = zip(
        poses.scores, poses.boxes, poses.keypoints, poses.num_keypoints.tolist(), strict=True
    )
    return {
        "schema": SCHEMA,
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
        "image": {"id": image.id, "width": image.width, "height": image.height},
        "timing_ms": {step: round(ms, 2) for step, ms in timing_ms.items()},
        "poses": [
            {
                "score": _short(score),
                "bbox": _shorts(box),
                "keypoints": [_shorts(joint) for joint in keypoints],
                "num_keypoints": count,
            }
            for score, box, keypoints, count in people
        ],
    }


def poses_from_record(record: Mapping[str, Any], num_joints: int) -> Poses:
    """The inverse of `image_record`."""
    if record.get("schema") != SCHEMA:
        raise AnnotationError(f"schema: expected {SCHEMA!r}, got {record.get('schema')!r}")
    people = record["poses"]
    keypoints = np.array([person["keypoints"] for person in people], np.float32)
    scores = np.array([person["score"] for person in people], np.float32)
    return Poses(keypoints.reshape(len(people), num_joints, 3), scores)


def openpose_record(poses: Poses) -> dict[str, Any]:
    """What OpenPose's `--write_json` writes; joints in the order of the skeleton.

    The order of `BODYPOSE_18` is that of OpenPose's COCO model.
    """
    return {
        "version": 1.3,
        "people": [
            {"person_id": [-1], "pose_keypoints_2d": _shorts(keypoints.ravel())}
            for keypoints in poses.keypoints
        ],
    }


def _short(value: np.float32) -> float:
    return float(str(value))


def _shorts(values: NDArray[np.float32]) -> list[float]:
    return [_short(value) for value in values]
