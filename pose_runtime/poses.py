"""`Poses`, the people found in one image, and their padded form on the wire."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

# A joint of this score or above is found; below, the network only guesses where it would be. It is
# the one rule for counts, boxes, drawings and files. On training images seven in ten joints below
# it have no label (docs/decisions.md).
FOUND_JOINT_SCORE = 0.2


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Poses:
    """N people, best first. N may be 0.

    keypoints: (N, J, 3) float32; x, y in image pixels, score in 0..1. A joint is found when its
               score is at least `FOUND_JOINT_SCORE`; below is a guess, and (0, 0, 0) is none.
    scores:    (N,)      float32; how sure we are of the person, in 0..1.
    """

    keypoints: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if self.keypoints.ndim != 3 or self.keypoints.shape[2] != 3:
            raise ContractError("keypoints", "(N, J, 3)", str(self.keypoints.shape))
        if self.scores.shape != (len(self.keypoints),):
            raise ContractError("scores", f"({len(self.keypoints)},)", str(self.scores.shape))

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        return f"Poses(n={len(self)}, joints={self.keypoints.shape[1]})"

    @classmethod
    def empty(cls, num_joints: int) -> Poses:
        """Nobody, for a skeleton of `num_joints`."""
        return cls(np.zeros((0, num_joints, 3), np.float32), np.zeros(0, np.float32))

    @property
    def found(self) -> Bools:
        """(N, J): which joints were found."""
        return self.keypoints[:, :, 2] >= np.float32(FOUND_JOINT_SCORE)

    @property
    def num_keypoints(self) -> Ints:
        """(N,): how many joints of each person were found."""
        return self.found.sum(axis=1).astype(np.int32)

    @property
    def corners(self) -> Floats:
        """(N, 4): left, top, right, bottom of the joints found, image pixels; 0 without any."""
        found, xy = self.found[:, :, None], self.keypoints[:, :, :2]
        low = np.where(found, xy, np.inf).min(axis=1, initial=np.inf)
        high = np.where(found, xy, -np.inf).max(axis=1, initial=-np.inf)
        corners = np.concatenate([low, high], axis=1)
        return np.where(found.any(axis=1), corners, 0).astype(np.float32)

    @property
    def boxes(self) -> Floats:
        """(N, 4): x, y, width, height of the joints found, image pixels; 0 without any."""
        low, high = np.split(self.corners, 2, axis=1)
        return np.concatenate([low, high - low], axis=1)

    def found_only(self) -> Self:
        """The same people; a joint that was not found is (0, 0, 0)."""
        return replace(self, keypoints=self.keypoints * self.found[:, :, None])

    def above(self, min_score: float) -> Self:
        """The people whose score is at least `min_score`."""
        keep = self.scores >= min_score
        return replace(self, keypoints=self.keypoints[keep], scores=self.scores[keep])


def pack_poses(poses: Poses, max_people: int) -> tuple[Floats, Floats, Ints]:
    """Padded wire form: keypoints (M, J, 3), scores (M,), num_people (1,). Keeps the best M."""
    count = min(len(poses), max_people)
    keypoints = np.zeros((max_people, *poses.keypoints.shape[1:]), np.float32)
    scores = np.zeros(max_people, np.float32)
    keypoints[:count], scores[:count] = poses.keypoints[:count], poses.scores[:count]
    return keypoints, scores, np.array([count], np.int32)


def unpack_poses(keypoints: Floats, scores: Floats, num_people: Ints) -> Poses:
    """The inverse of `pack_poses`."""
    count = int(num_people[0])
    if not 0 <= count <= len(scores):
        raise ContractError("num_people", f"0..{len(scores)}", str(count))
    return Poses(keypoints[:count], scores[:count])
