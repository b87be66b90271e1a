"""The formats of people for other programs: `bodypose/1`, OpenPose, supervision, CSV rows.

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

# People below this score are not shown; evaluation keeps them all. On training images 76 % of the
# shipped model's people above it are right, and 85 % of those above 0.25 (docs/decisions.md).
DISPLAY_MIN_SCORE = 0.2

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

    Coordinates are pixels of the image. `keypoints` holds every joint with its score, so that the
    record reads back as the same people; `bbox` (x, y, width, height) and `num_keypoints` are of
    the joints found (`FOUND_JOINT_SCORE`). Floats are the shortest that read back as the same
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


# OpenPose writes all of these, whatever it was asked for.
_OPENPOSE_EMPTY = tuple(
    f"{part}_keypoints_{dimensions}"
    for dimensions in ("2d", "3d")
    for part in ("pose", "face", "hand_left", "hand_right")
)


def openpose_record(poses: Poses) -> dict[str, Any]:
    """What OpenPose's `--write_json` writes; joints in the order of the skeleton.

    The order of `BODYPOSE_18` is that of OpenPose's COCO model. A joint that was not found is
    0, 0, 0, as OpenPose has it: its format knows no guesses.

    Source: OpenPose 1.7, doc/02_output.md, "JSON output format".
    """
    nothing: dict[str, list[float]] = {key: [] for key in _OPENPOSE_EMPTY}
    return {
        "version": 1.3,
        "people": [
            {"person_id": [-1], **nothing, "pose_keypoints_2d": _shorts(keypoints.ravel())}
            for keypoints in poses.found_only().keypoints
        ],
    }


# Source: OWASP, CSV Injection.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_header(skeleton: Skeleton) -> list[str]:
    """Columns of `csv_rows`."""
    joints = (f"{joint}_{part}" for joint in skeleton.joints for part in ("x", "y", "score"))
    return ["image", "person", "score", "x", "y", "width", "height", *joints]


def csv_rows(image_id: str, poses: Poses) -> list[list[str | int | float]]:
    """One row for each person, best first: its box around the joints found, then every joint.

    A spreadsheet would run a name such as `=cmd()` as a formula: it gets an apostrophe in front.
    """
    people = zip(poses.scores, poses.boxes, poses.keypoints, strict=True)
    name = f"'{image_id}" if image_id.startswith(_FORMULA_STARTS) else image_id
    return [
        [name, number, _short(score), *_shorts(box), *_shorts(keypoints.ravel())]
        for number, (score, box, keypoints) in enumerate(people, 1)
    ]


def supervision_keypoints(poses: Poses, skeleton: Skeleton) -> Any:
    """The people as `supervision.KeyPoints` (0.29 or later); one class, the person.

    The joints are those of annotation files, in their order: supervision knows the limbs of COCO's
    17 by their number. A joint that was not found is at 0, 0 and not `visible`.

    Raises:
        MissingPackage: supervision is not installed.
    """
    require("supervision")
    import supervision

    keypoints = skeleton.annotation_from_joints(poses.found_only().keypoints)
    return supervision.KeyPoints(
        xy=keypoints[:, :, :2].copy(),
        class_id=np.zeros(len(poses), np.int64),
        keypoint_confidence=keypoints[:, :, 2].copy(),
        detection_confidence=poses.scores.copy(),
        visible=keypoints[:, :, 2].astype(bool),
    )


def _short(value: np.float32) -> float:
    return float(str(value))


def _shorts(values: NDArray[np.float32]) -> list[float]:
    return [_short(value) for value in values]
