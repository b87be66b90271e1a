"""Owns grouping: the network's peaks and limb scores of one image become people."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from .errors import NotFinite
from .joining import Ints, LimbTables, join_nodes, limb_tables
from .letterbox import Letterbox
from .poses import Poses
from .skeleton import Skeleton
from .spec import GroupingSettings, PipelineSpec

Floats = NDArray[np.float32]

_ABOVE_ZERO = 1e-30  # a score of 0 means "nothing there", whatever the thresholds say
_MISSING = np.zeros((1, 3), np.float32)  # the row of a joint that was not found
# Of a score: what OKS people of a size can expect (docs/decisions.md).
_PLACED_WITHIN = 2.0  # network pixels, standard deviation of a joint's place along each axis
_AREA = 0.27  # of the squared diagonal of the joints' box; median of 3,251 annotated people
_LEAST_DIAGONAL = 16.0  # network pixels


def people_in_image(
    peaks: Floats, limb_scores: Floats, geometry: Floats, spec: PipelineSpec
) -> Poses:
    """The people of one image, in its own pixels: 0 <= x <= width, 0 <= y <= height.

    Args:
        peaks: (J, P, 3), x, y in network pixels and score; unused rows score 0.
        limb_scores: (L, P, P), 0 where two peaks are not joined.
        geometry: (5,), the image's `Letterbox`.
        spec: skeleton and thresholds.

    Raises:
        NotFinite: the network gave NaN or infinity.
        ContractError: `geometry` is no letterbox.
    """
    letterbox = Letterbox.from_geometry(geometry)
    height, width = letterbox.image_hw
    found = group_poses(peaks, limb_scores, spec.skeleton, spec.grouping)
    xy, score = found.keypoints[:, :, :2], found.keypoints[:, :, 2:]
    # A peak may lie in the padding; the joint is then at the picture's edge.
    in_image = letterbox.to_image(xy).clip(0, np.array((width, height), np.float32))
    keypoints = np.concatenate([in_image * (score > 0), score], axis=2)
    return Poses(keypoints, found.scores)


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
        Poses in the pixels of `peaks`. The score of a person with n joints is the mean of their
        scores times sqrt(n / J) times the OKS that people of their size can expect: of the formulas
        tried on training images it ranks people best for AP (docs/decisions.md).

    Source: greedy bipartite matching over all limbs at once as in OpenPose (Cao et al. 2017,
    arXiv:1611.08050, section 2.4, and its later "all limbs, sorted" parser), written anew.
    """
    if not (np.isfinite(peaks).all() and np.isfinite(limb_scores).all()):
        raise NotFinite("peaks and limb_scores: expected finite numbers, got NaN or infinity")
    tables = limb_tables(skeleton, peaks.shape[1])
    is_joint = peaks[:, :, 2].ravel() >= max(settings.min_peak_score, _ABOVE_ZERO)
    candidates = _strongest_first(limb_scores.ravel(), is_joint, tables, settings)
    nodes, owners = join_nodes(candidates, tables)
    if settings.min_joints <= 1:
        loose = np.setdiff1d(is_joint.nonzero()[0], nodes)
        nodes, owners = np.append(nodes, loose), np.append(owners, loose)
    keypoints, scores = _people_of_owners(nodes, owners, peaks, tables, settings.min_joints)
    scores = (scores * _expected_oks(keypoints, skeleton)).astype(np.float32)
    best = (-scores).argsort(kind="stable")
    return Poses(keypoints[best], scores[best])


def _strongest_first(
    scores: Floats, is_joint: NDArray[np.bool_], tables: LimbTables, settings: GroupingSettings
) -> Ints:
    """Places of `scores` (L * P * P,) that are limbs between joints, strongest first."""
    places = (scores >= max(settings.min_limb_score, _ABOVE_ZERO)).nonzero()[0]
    places = places[is_joint[tables.starts[places]] & is_joint[tables.ends[places]]]
    return places[(-scores[places]).argsort(kind="stable")]


def _people_of_owners(
    nodes: Ints, owners: Ints, peaks: Floats, tables: LimbTables, min_joints: int
) -> tuple[Floats, NDArray[np.float64]]:
    """People of at least `min_joints` joints in the order of owners: (N, J, 3), and their scores.

    A score is the mean of the n joints' times sqrt(n / J), 1 at most.
    """
    num_joints, count = len(peaks), len(tables.joint_of_node)
    peaks = peaks.reshape(-1, 3)
    sizes = np.bincount(owners, minlength=count)
    totals = np.bincount(owners, peaks[:, 2][nodes], minlength=count)
    people = (sizes >= max(min_joints, 1)).nonzero()[0]
    scores = np.minimum(totals[people] / np.sqrt(sizes[people] * num_joints), 1)
    # One row more for those with too few joints, and one peak more for joints that are missing.
    row_of = np.full(count, len(people))
    row_of[people] = np.arange(len(people))
    chosen = np.full((len(people) + 1) * num_joints, count)
    chosen[row_of[owners] * num_joints + tables.joint_of_node[nodes]] = nodes
    padded = np.concatenate([peaks, _MISSING])
    return padded.take(chosen.reshape(-1, num_joints)[:-1], axis=0), scores


def _expected_oks(keypoints: Floats, skeleton: Skeleton) -> NDArray[np.float64]:
    """The OKS that each person's size allows, (N,) in 0..1: small people are placed less exactly.

    A joint that is off by a Gaussian error of standard deviation e along each axis has the expected
    similarity 1 / (1 + e^2 / (s^2 k^2)), the mean of OKS' exp(-d^2 / (2 s^2 k^2)), where s^2 is
    the person's area and k twice the joint's sigma.

    Args:
        keypoints: (N, J, 3) in network pixels; missing joints score 0, everyone has some.
        skeleton: its sigmas.

    Source: OKS, https://cocodataset.org/#keypoints-eval; its mean over the error is ours.
    """
    xy, is_found = keypoints[:, :, :2], keypoints[:, :, 2:] > 0
    lowest = xy.min(axis=1, where=is_found, initial=np.inf).astype(np.float64)
    highest = xy.max(axis=1, where=is_found, initial=-np.inf).astype(np.float64)
    diagonals = np.maximum(np.hypot(*(highest - lowest).T), _LEAST_DIAGONAL)
    reach = diagonals[:, None] * _reach_of_joints(skeleton.sigmas)
    similarity: NDArray[np.float64] = 1 / (1 + (_PLACED_WITHIN / reach) ** 2)
    return similarity.mean(axis=1)


@functools.lru_cache(maxsize=64)
def _reach_of_joints(sigmas: tuple[float, ...]) -> NDArray[np.float64]:
    """OKS' s k of each joint, for a person of diagonal 1."""
    return np.sqrt(_AREA) * 2 * np.array(sigmas)
