"""Owns `ImagePoses`: people who know their image, their joints' names and who found them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bodypose_client.scoring.coco_eval import Result, coco_results
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .formats import ImageInfo, ServedModel, image_record, openpose_record, supervision_keypoints


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImagePoses(Poses):
    """The people of one image, best first, and every form in which they leave the client."""

    image: ImageInfo
    skeleton: Skeleton
    model: ServedModel
    timing_ms: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """`bodypose/1`, ready for `json.dumps`."""
        return image_record(self, self.image, self.model, self.timing_ms)

    def to_coco(self, image_id: int | str) -> list[Result]:
        """COCO's results format: one entry for each person."""
        return coco_results(image_id, self, self.skeleton)

    def to_openpose(self) -> dict[str, Any]:
        """What OpenPose's `--write_json` writes."""
        return openpose_record(self)

    def to_supervision(self) -> Any:
        """`supervision.KeyPoints`.

        Raises:
            MissingPackage: supervision is not installed.
        """
        return supervision_keypoints(self)
