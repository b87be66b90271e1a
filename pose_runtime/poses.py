"""Owns `Poses`, the people found in one image, and their padded form on the wire."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Poses:
    """N people, best first. N may be 0.

    keypoints: (N, J, 3) float32; x, y in image pixels, score in 0..1; a missing joint is (0, 0, 0).
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
        return cls(np.zeros((0, num_joints, 3), np.float32), np.zeros(0, np.float32))

    @property
    def num_keypoints(self) -> Ints:
        """(N,): joints found of each person."""
        return (self.keypoints[:, :, 2] > 0).sum(axis=1).astype(np.int32)

    @property
    def boxes(self) -> Floats:
        """(N, 4): x, y, width, height around the joints found, image pixels."""
        found = self.keypoints[:, :, 2:] > 0
        low = np.where(found, self.keypoints[:, :, :2], np.inf).min(axis=1, initial=np.inf)
        high = np.where(found, self.keypoints[:, :, :2], -np.inf).max(axis=1, initial=-np.inf)
        nothing = ~found.any(axis=1)
        boxes: Floats = np.where(nothing, 0, np.concatenate([low, high - low], axis=1))
        return boxes.astype(np.float32)

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
