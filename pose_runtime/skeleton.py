"""Owns the skeleton: which joints a person has, how they connect, how they mirror."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import SpecError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joints and limbs of one kind of body. All indices are 0-based.

    The order of `joints` is the order of heatmap channels and of `Poses.keypoints` rows; limb l
    owns part affinity channels 2l (x) and 2l + 1 (y), pointing from its first joint to its second.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    mirror: tuple[int, ...]  # mirror[j]: the joint that j becomes when the image is flipped
    sigmas: tuple[float, ...]  # OKS standard deviation of each joint, relative to sqrt(area)
    annotated: tuple[int, ...]  # annotated[k]: the joint of keypoint k in annotation files
    midpoints: tuple[tuple[int, int, int], ...] = ()  # (joint, a, b): joint lies between a and b

    def __post_init__(self) -> None:
        count = len(self.joints)
        if len(set(self.joints)) != count:
            raise SpecError(f"skeleton {self.name}: joint names must differ, got {self.joints}")
        for field in ("mirror", "sigmas"):
            if len(getattr(self, field)) != count:
                raise SpecError(
                    f"skeleton {self.name}: {field} needs one entry for each of {count} joints,"
                    f" got {len(getattr(self, field))}"
                )
        if not all(0 < sigma < math.inf for sigma in self.sigmas):
            raise SpecError(
                f"skeleton {self.name}: sigmas: expected finite numbers above 0, got"
                f" {self.sigmas!a:.200}"
            )
        for group in (*self.limbs, *self.midpoints, self.mirror, self.annotated):
            if not all(0 <= joint < count for joint in group):
                raise SpecError(
                    f"skeleton {self.name}: {group}: joints go from 0 to {count - 1}"
                    " (COCO's file counts from 1)"
                )
        if any(self.mirror[self.mirror[j]] != j for j in range(count)):
            raise SpecError(
                f"skeleton {self.name}: mirror must undo itself: mirror[mirror[j]] == j"
            )
        if not self.limbs or any(a == b for a, b in self.limbs):
            raise SpecError(f"skeleton {self.name}: needs limbs between two different joints")
        derived = {joint for joint, _, _ in self.midpoints}
        if set(self.annotated) | derived != set(range(count)) or derived & set(self.annotated):
            raise SpecError(
                f"skeleton {self.name}: every joint must be annotated or a midpoint, and not both"
            )

    @property
    def num_joints(self) -> int:
        """J."""
        return len(self.joints)

    @property
    def num_limbs(self) -> int:
        """L."""
        return len(self.limbs)

    @property
    def annotated_joints(self) -> tuple[str, ...]:
        """Joint names in the order of annotation files."""
        return tuple(self.joints[joint] for joint in self.annotated)

    def joints_from_annotation(self, annotation: Floats) -> Floats:
        """From annotation files' keypoints (N, A, 3) to joints (N, J, 3).

        The third number is kept as it is (COCO's visibility, or a score). A midpoint exists only
        where both of its ends do, with the lower third number of the two; else it is (0, 0, 0).
        """
        joints = np.zeros((len(annotation), self.num_joints, 3), np.float32)
        joints[:, list(self.annotated)] = annotation
        for joint, a, b in self.midpoints:
            both = (joints[:, a, 2] > 0) & (joints[:, b, 2] > 0)
            joints[both, joint, :2] = (joints[both, a, :2] + joints[both, b, :2]) / 2
            joints[both, joint, 2] = np.minimum(joints[both, a, 2], joints[both, b, 2])
        return joints

    def annotation_from_joints(self, keypoints: Floats) -> Floats:
        """From joints (N, J, 3) to the annotation files' order (N, A, 3); midpoints are dropped."""
        return keypoints[:, list(self.annotated)]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Skeleton:
        """The inverse of `to_json`.

        Raises:
            SpecError: `raw` is no skeleton.
        """
        try:
            return cls(
                name=str(raw["name"]),
                joints=tuple(str(joint) for joint in raw["joints"]),
                limbs=tuple((int(a), int(b)) for a, b in raw["limbs"]),
                mirror=tuple(int(joint) for joint in raw["mirror"]),
                sigmas=tuple(float(sigma) for sigma in raw["sigmas"]),
                annotated=tuple(int(joint) for joint in raw["annotated"]),
                midpoints=tuple((int(j), int(a), int(b)) for j, a, b in raw.get("midpoints", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SpecError(
                "skeleton: expected name, joints, limbs, mirror, sigmas, annotated and midpoints,"
                f" got a file where {error!r:.200} is wrong"
            ) from error


# Joints and limbs in BodyPoseNet's order (NVIDIA TAO bpnet_18joints.json); OKS sigmas are
# COCO's (cocodataset.org, keypoints evaluation), the neck takes the shoulders'.
BODYPOSE_18 = Skeleton(
    name="bodypose_18",
    joints=(
        "nose",
        "neck",
        "right_shoulder",
        "right_elbow",
        "right_wrist",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "right_hip",
        "right_knee",
        "right_ankle",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_eye",
        "left_eye",
        "right_ear",
        "left_ear",
    ),
    limbs=(
        (1, 8),
        (8, 9),
        (9, 10),
        (1, 11),
        (11, 12),
        (12, 13),
        (1, 2),
        (2, 3),
        (3, 4),
        (2, 16),
        (1, 5),
        (5, 6),
        (6, 7),
        (5, 17),
        (1, 0),
        (0, 14),
        (0, 15),
        (14, 16),
        (15, 17),
    ),
    mirror=(0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16),
    sigmas=(
        *(0.026, 0.079),
        *(0.079, 0.072, 0.062) * 2,
        *(0.107, 0.087, 0.089) * 2,
        *(0.025, 0.025, 0.035, 0.035),
    ),
    annotated=(0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),
    midpoints=((1, 2, 5),),
)
