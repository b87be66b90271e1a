"""Owns grouping: the network's peaks and limb scores of one image become people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError
from .letterbox import Letterbox
from .poses import Poses
from .skeleton import Skeleton
from .spec import GroupingSettings, PipelineSpec

Floats = NDArray[np.float32]

_ABOVE_ZERO = 1e-30  # a score of 0 means "nothing there", whatever the thresholds say


def people_in_image(
    peaks: Floats, limb_scores: Floats, geometry: Floats, spec: PipelineSpec
) -> Poses:
    """The people of one image, in its own pixels.

    Args:
        peaks: (J, P, 3), x, y in network pixels and score; unused rows score 0.
        limb_scores: (L, P, P), 0 where two peaks are not joined.
        geometry: (5,), the image's `Letterbox`.
        spec: skeleton and thresholds.

    Raises:
        ContractError: the network gave NaN or infinity, or `geometry` is no letterbox.
    """
    letterbox = Letterbox.from_geometry(geometry)
    poses = group_poses(peaks, limb_scores, spec.skeleton, spec.grouping)
    keypoints = poses.keypoints.copy()
    found = keypoints[:, :, 2] > 0
    keypoints[found, :2] = letterbox.to_image(keypoints[found, :2])
    return Poses(keypoints, poses.scores)


def group_poses(
    peaks: Floats, limb_scores: Floats, skeleton: Skeleton, settings: GroupingSettings
) -> Poses:
    """Join peaks into people by their limbs, strongest limb first.

    All candidate limbs of all kinds are taken in order of their score (ties: lower limb, then
    lower peaks). A limb joins two peaks unless one of them already has a limb of that kind, or the
    two belong to different people who both have some joint. People are sorted by score.

    Args:
        peaks: (J, P, 3), x, y in network pixels and score in 0..1; unused rows score 0.
        limb_scores: (L, P, P), score of joining peak i of a limb's first joint with peak j of its
            second.
        skeleton: which joints each limb connects.
        settings: thresholds.

    Returns:
        Poses in network pixels. The score of a person with n joints is the mean of their scores
        times sqrt(n / J): of the formulas tried on training images it ranks people best for AP
        (docs/decisions.md).

    Source: greedy bipartite matching over all limbs at once as in OpenPose (Cao et al. 2017,
    arXiv:1611.08050, section 2.4, and its later "all limbs, sorted" parser), written anew.
    """
    if not (np.isfinite(peaks).all() and np.isfinite(limb_scores).all()):
        raise ContractError("peaks and limb_scores", "finite numbers", "NaN or infinity")
    num_joints, num_peaks = peaks.shape[:2]
    is_joint = peaks[:, :, 2] >= max(settings.min_peak_score, _ABOVE_ZERO)
    first_of, second_of = np.array(skeleton.limbs, np.intp).T
    usable = limb_scores >= max(settings.min_limb_score, _ABOVE_ZERO)
    usable &= is_joint[first_of][:, :, None] & is_joint[second_of][:, None, :]
    limbs, firsts, seconds = np.nonzero(usable)
    strongest = np.argsort(-limb_scores[limbs, firsts, seconds], kind="stable")
    limbs, firsts, seconds = limbs[strongest], firsts[strongest], seconds[strongest]

    people = _People(num_joints, num_peaks)
    taken: set[tuple[int, int]] = set()
    nodes_a = first_of[limbs] * num_peaks + firsts
    nodes_b = second_of[limbs] * num_peaks + seconds
    for limb, a, b in zip(limbs.tolist(), nodes_a.tolist(), nodes_b.tolist(), strict=True):
        if (limb, a) in taken or (limb, b) in taken:
            continue
        if people.join(a, b):
            taken.update(((limb, a), (limb, b)))

    nodes = people.nodes()
    if settings.min_joints <= 1:
        loose = set(np.flatnonzero(is_joint).tolist()).difference(*nodes)
        nodes += [[node] for node in sorted(loose)]
    return _poses_from_nodes(
        [members for members in nodes if len(members) >= settings.min_joints], peaks
    )


class _People:
    """Which peak belongs to whom. A node is joint * P + peak; each person has a joint once."""

    def __init__(self, num_joints: int, num_peaks: int) -> None:
        self._num_peaks = num_peaks
        self._owner: list[int] = [-1] * (num_joints * num_peaks)
        self._members: list[list[int]] = []
        self._joints: list[int] = []  # bit j: the person has joint j

    def join(self, a: int, b: int) -> bool:
        """Put two nodes into one person, if no joint would be there twice."""
        first, second = self._owner_of(a), self._owner_of(b)
        if first == second:
            return True
        if self._joints[first] & self._joints[second]:
            return False
        if len(self._members[first]) < len(self._members[second]):
            first, second = second, first
        for node in self._members[second]:
            self._owner[node] = first
        self._members[first] += self._members[second]
        self._members[second] = []
        self._joints[first] |= self._joints[second]
        self._joints[second] = 0
        return True

    def nodes(self) -> list[list[int]]:
        return [members for members in self._members if len(members) > 1]

    def _owner_of(self, node: int) -> int:
        if self._owner[node] < 0:
            self._owner[node] = len(self._members)
            self._members.append([node])
            self._joints.append(1 << node // self._num_peaks)
        return self._owner[node]


def _poses_from_nodes(people: list[list[int]], peaks: Floats) -> Poses:
    num_joints, num_peaks = peaks.shape[:2]
    keypoints = np.zeros((len(people), num_joints, 3), np.float32)
    rows = np.repeat(np.arange(len(people)), [len(members) for members in people])
    joints, chosen = np.divmod(
        np.array([node for members in people for node in members], np.intp), num_peaks
    )
    keypoints[rows, joints] = peaks[joints, chosen]
    sizes = np.array([len(members) for members in people], np.float32)
    scores = keypoints[:, :, 2].sum(axis=1) / np.sqrt(np.maximum(sizes, 1) * num_joints)
    scores = np.minimum(scores, 1).astype(np.float32)
    best = np.argsort(-scores, kind="stable")
    return Poses(keypoints[best], scores[best])
