"""Owns the forms in which people leave the client: `bodypose/1`, OpenPose, supervision, CSV rows.

COCO's results format is in `coco_eval.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose_runtime.extras import require
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .errors import AnnotationError

# People below this score are not shown; evaluation keeps them all. On training images 80 % of the
# shipped model's people above it are right, and 67 % of those above 0.15 (docs/decisions.md).
DISPLAY_MIN_SCORE = 0.25
# On training images seven in ten joints below it have no label: the network only expects them.
DISPLAY_MIN_JOINT = 0.2

SCHEMA = "bodypose/1"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Which model answered."""

    name: str
    version: str
    sha256: str  # of the network, from its PipelineSpec


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Which image a record is about; sizes are after EXIF orientation."""

    id: str  # the file's name; "" for bytes and pixels
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


def csv_header(skeleton: Skeleton) -> list[str]:
    """Columns of `csv_rows`."""
    joints = (f"{joint}_{part}" for joint in skeleton.joints for part in ("x", "y", "score"))
    return ["image", "person", "score", "x", "y", "width", "height", *joints]


def csv_rows(image_id: str, poses: Poses) -> list[list[str | int | float]]:
    """One row for each person, best first; a joint that was not found is 0, 0, 0."""
    people = zip(poses.scores, poses.boxes, poses.keypoints, strict=True)
    return [
        [image_id, number, _short(score), *_shorts(box), *_shorts(keypoints.ravel())]
        for number, (score, box, keypoints) in enumerate(people, 1)
    ]


def supervision_keypoints(poses: Poses) -> Any:
    """As `supervision.KeyPoints` (0.29 or later), for its annotators; one class, the person.

    Raises:
        MissingPackage: supervision is not installed.
    """
    require("supervision")
    import supervision

    return supervision.KeyPoints(
        xy=poses.keypoints[:, :, :2].copy(),
        class_id=np.zeros(len(poses), np.int64),
        keypoint_confidence=poses.keypoints[:, :, 2].copy(),
        detection_confidence=poses.scores.copy(),
        visible=poses.keypoints[:, :, 2] > 0,
    )


def _short(value: np.float32) -> float:
    return float(str(value))


def _shorts(values: NDArray[np.float32]) -> list[float]:
    return [_short(value) for value in values]
