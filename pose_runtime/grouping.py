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
    num_peaks = peaks.shape[1]
    is_joint = peaks[:, :, 2].ravel() >= max(settings.min_peak_score, _ABOVE_ZERO)
    candidates = _strongest_first(limb_scores, is_joint, skeleton, settings)
    people = _join_nodes(candidates, skeleton.num_limbs, num_peaks)
    if settings.min_joints <= 1:
        loose = set(np.flatnonzero(is_joint).tolist()).difference(*people)
        people += [[node] for node in sorted(loose)]
    return _poses_from_nodes(
        [members for members in people if len(members) >= settings.min_joints], peaks
    )


def _strongest_first(
    limb_scores: Floats,
    is_joint: NDArray[np.bool_],
    skeleton: Skeleton,
    settings: GroupingSettings,
) -> list[tuple[int, int, int]]:
    """Candidate limbs as (limb, node, node), strongest first; a node is joint * P + peak."""
    num_peaks = limb_scores.shape[1]
    scores = limb_scores.ravel()
    candidates = np.flatnonzero(scores >= max(settings.min_limb_score, _ABOVE_ZERO))
    limbs, pairs = np.divmod(candidates, num_peaks * num_peaks)
    firsts, seconds = np.divmod(pairs, num_peaks)
    ends = np.array(skeleton.limbs, np.intp)[limbs] * num_peaks
    nodes_a, nodes_b = ends[:, 0] + firsts, ends[:, 1] + seconds
    both = is_joint[nodes_a] & is_joint[nodes_b]
    order = np.argsort(-scores[candidates[both]], kind="stable")
    columns = (column[both][order].tolist() for column in (limbs, nodes_a, nodes_b))
    return list(zip(*columns, strict=True))


def _join_nodes(
    candidates: list[tuple[int, int, int]], num_limbs: int, num_peaks: int
) -> list[list[int]]:
    """People as lists of nodes, two or more each, in no particular order."""
    owner: dict[int, int] = {}  # node -> person
    members: list[list[int]] = []
    joints: list[int] = []  # bit j: the person has joint j
    taken: set[int] = set()  # node * L + limb: the node has its limb of that kind
    for limb, a, b in candidates:
        limb_of_a, limb_of_b = a * num_limbs + limb, b * num_limbs + limb
        if limb_of_a in taken or limb_of_b in taken:
            continue
        for node in (a, b):
            if node not in owner:
                owner[node] = len(members)
                members.append([node])
                joints.append(1 << node // num_peaks)
        one, other = owner[a], owner[b]
        if one != other:
            if joints[one] & joints[other]:
                continue
            if len(members[one]) < len(members[other]):
                one, other = other, one
            for node in members[other]:
                owner[node] = one
            members[one] += members[other]
            joints[one] |= joints[other]
            members[other] = []
        taken.add(limb_of_a)
        taken.add(limb_of_b)
    return [nodes for nodes in members if len(nodes) > 1]


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
