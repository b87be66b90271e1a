"""`ImagePoses`: people with their image, their joints' names, and the model that found them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from bodypose_client.scoring.coco_eval import Result, coco_results
from pose_runtime.errors import ContractError
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .formats import ImageInfo, ServedModel, image_record, openpose_record, supervision_keypoints


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person of an image. Coordinates are image pixels, as in `Poses`."""

    score: float  # in 0..1
    keypoints: NDArray[np.float32]  # (J, 3): x, y, score, in the order of `joints`
    found: NDArray[np.bool_]  # (J,): which joints were found
    box: NDArray[np.float32]  # (4,): x, y, width, height of the joints found
    joints: tuple[str, ...]  # the skeleton's names

    @property
    def num_keypoints(self) -> int:
        """How many joints were found."""
        return int(self.found.sum())

    def joint(self, name: str) -> tuple[float, float, float] | None:
        """x, y and score of the joint of that name; None when it was not found.

        Raises:
            ContractError: the skeleton has no such joint.
        """
        if name not in self.joints:
            raise ContractError("joint", f"one of {', '.join(self.joints)}", repr(name))
        index = self.joints.index(name)
        x, y, score = self.keypoints[index].tolist()
        return (x, y, score) if self.found[index] else None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImagePoses(Poses):
    """The people of one image, best first, and every form in which they leave the client.

    `len(poses)`, `poses[0]` and `for person in poses` are of its people (`Person`); a slice is
    `ImagePoses` again. The server's people are all there, however unsure: `poses.above(0.2)` are
    those that the commands show (`DISPLAY_MIN_SCORE`).
    """

    image: ImageInfo
    skeleton: Skeleton
    model: ServedModel
    timing_ms: Mapping[str, float]

    @overload
    def __getitem__(self, index: int) -> Person: ...

    @overload
    def __getitem__(self, index: slice) -> ImagePoses: ...

    def __getitem__(self, index: int | slice) -> Person | ImagePoses:
        if isinstance(index, slice):
            return replace(self, keypoints=self.keypoints[index], scores=self.scores[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"person {index}: expected one of {len(self)}")
        return Person(
            float(self.scores[index]),
            self.keypoints[index],
            self.found[index],
            self.boxes[index],
            self.skeleton.joints,
        )

    def __iter__(self) -> Iterator[Person]:
        return (self[index] for index in range(len(self)))

    def to_json(self) -> dict[str, Any]:
        """`bodypose/1`, ready for `json.dumps`."""
        return image_record(self, self.image, self.model, self.timing_ms)

    def to_coco(self, image_id: int | str) -> list[Result]:
        """COCO's results format: one entry for each person, coordinates half a pixel lower."""
        return coco_results(image_id, self, self.skeleton)

    def to_openpose(self) -> dict[str, Any]:
        """What OpenPose's `--write_json` writes."""
        return openpose_record(self)

    def to_supervision(self) -> Any:
        """`supervision.KeyPoints`, whose annotators draw COCO's limbs.

        Raises:
            MissingPackage: supervision is not installed.
        """
        return supervision_keypoints(self, self.skeleton)
