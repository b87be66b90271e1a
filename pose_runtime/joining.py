"""Owns the joining of nodes (the peaks of all joints) into people by limbs, strongest limb first.

The rule, over the candidates of all kinds of limb in order of their score: a limb joins two nodes
unless one of them already has a limb of that kind, or the two belong to different people who both
have some joint.

The second reason seldom applies. Without it, kinds of limb do not disturb each other, and whole
arrays can be worked on at once; its result is the rule's own if no person got a joint twice,
because then no part of a person could have been refused on the way. Otherwise limbs are taken one
by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .skeleton import Skeleton

Ints = NDArray[np.intp]

# Rounds of matching before limbs are taken one by one: noise would need many.
_MAX_ROUNDS = 4


@dataclass(frozen=True, slots=True, eq=False)
class LimbTables:
    """What each of the L * P * P places of `limb_scores`, flattened, stands for.

    A node is joint * P + peak; N = J * P. One limb to each joint, but not all limbs, make a tree
    (or several); its root is the joint with most limbs.

    starts, ends: the two nodes; in the tree `ends` is farther from the root.
    starts_of_kind, ends_of_kind: limb * P + peak of the first, and of the second joint.
    in_tree: whether the limb is part of the tree.
    joint_of_node: (N,).
    num_kinds: L * P.
    num_joints: J.
    jumps: how often a path to the root can be halved.
    """

    starts: Ints
    ends: Ints
    starts_of_kind: Ints
    ends_of_kind: Ints
    in_tree: NDArray[np.bool_]
    joint_of_node: Ints
    num_kinds: int
    num_joints: int
    jumps: int


@lru_cache(maxsize=8)
def limb_tables(skeleton: Skeleton, num_peaks: int) -> LimbTables:
    shape = (skeleton.num_limbs, num_peaks, num_peaks)
    limbs, firsts, seconds = (axis.ravel() for axis in np.indices(shape, np.intp))
    outwards, depth = _tree(skeleton)
    joints = np.array(skeleton.limbs, np.intp).reshape(-1, 2)[limbs]
    nodes_a, nodes_b = joints[:, 0] * num_peaks + firsts, joints[:, 1] * num_peaks + seconds
    turned = outwards[limbs] < 0
    return LimbTables(
        starts=np.where(turned, nodes_b, nodes_a),
        ends=np.where(turned, nodes_a, nodes_b),
        starts_of_kind=limbs * num_peaks + firsts,
        ends_of_kind=limbs * num_peaks + seconds,
        in_tree=outwards[limbs] != 0,
        joint_of_node=np.arange(skeleton.num_joints, dtype=np.intp).repeat(num_peaks),
        num_kinds=skeleton.num_limbs * num_peaks,
        num_joints=skeleton.num_joints,
        jumps=(depth - 1).bit_length(),
    )


def join_nodes(candidates: Ints, tables: LimbTables) -> tuple[Ints, Ints]:
    """Which nodes have a limb, and to whom they belong.

    Args:
        candidates: places in the flattened `limb_scores`, strongest first, each between two peaks.
        tables: of the skeleton and P.

    Returns:
        nodes: those with a limb, ascending.
        owners: of each of `nodes`, its person, named by one of the person's nodes.
    """
    matched = _matched(candidates, tables)
    if matched is not None:
        nodes, owners = _connected(matched, tables)
        if not _has_a_joint_twice(nodes, owners, tables):
            return nodes, owners
    return _joined_one_by_one(candidates, tables)


def _matched(candidates: Ints, tables: LimbTables) -> Ints | None:
    """What taking the strongest first gives each kind of limb by itself; None if it takes long.

    In each round a limb is taken when it is the strongest of its kind at both of its nodes.
    """
    starts, ends = tables.starts_of_kind[candidates], tables.ends_of_kind[candidates]
    strongest_from = np.empty(tables.num_kinds, np.intp)
    strongest_to = np.empty(tables.num_kinds, np.intp)
    is_taken = np.zeros(len(candidates), np.bool_)
    left = np.arange(len(candidates))
    for _ in range(_MAX_ROUNDS):
        weakest_first = left[::-1]  # of several writes to one place the last stays
        strongest_from[starts[weakest_first]] = weakest_first
        strongest_to[ends[weakest_first]] = weakest_first
        by_start, by_end = strongest_from[starts[left]], strongest_to[ends[left]]
        is_taken[left[(by_start == left) & (by_end == left)]] = True
        left = left[~(is_taken[by_start] | is_taken[by_end])]
        if not len(left):
            return candidates[is_taken]
    return None


def _connected(limbs: Ints, tables: LimbTables) -> tuple[Ints, Ints]:
    """As `join_nodes`, when every one of `limbs` joins its two nodes."""
    starts, ends, in_tree = tables.starts[limbs], tables.ends[limbs], tables.in_tree[limbs]
    root = np.arange(len(tables.joint_of_node))
    root[ends[in_tree]] = starts[in_tree]
    for _ in range(tables.jumps):
        root = root[root]
    across = ~in_tree
    one, other = root[starts[across]], root[ends[across]]
    apart = one != other
    if apart.any():
        root = _with_names_united(one[apart].tolist(), other[apart].tolist(), len(root))[root]
    has_limb = np.zeros(len(root), np.bool_)
    has_limb[starts] = True
    has_limb[ends] = True
    nodes = has_limb.nonzero()[0]
    return nodes, root[nodes]


def _with_names_united(ones: list[int], others: list[int], count: int) -> Ints:
    """(count,): what each name becomes when each of `ones` is another name for its other."""
    renamed: dict[int, int] = {}

    def newest(name: int) -> int:
        while name in renamed:
            name = renamed[name]
        return name

    for one, other in zip(ones, others, strict=True):
        if (old := newest(one)) != (new := newest(other)):
            renamed[old] = new
    names = np.arange(count)
    for old in renamed:
        names[old] = newest(old)
    return names


def _has_a_joint_twice(nodes: Ints, owners: Ints, tables: LimbTables) -> bool:
    is_used = np.zeros(len(tables.joint_of_node) * tables.num_joints, np.bool_)
    is_used[owners * tables.num_joints + tables.joint_of_node[nodes]] = True
    return int(np.count_nonzero(is_used)) < len(nodes)


def _joined_one_by_one(candidates: Ints, tables: LimbTables) -> tuple[Ints, Ints]:
    columns = (tables.starts_of_kind, tables.ends_of_kind, tables.starts, tables.ends)
    starts_taken = bytearray(tables.num_kinds)
    ends_taken = bytearray(tables.num_kinds)
    owner = list(range(len(tables.joint_of_node)))
    members: dict[int, list[int]] = {}
    joints = [1 << joint for joint in tables.joint_of_node.tolist()]  # of a person, as bits
    for start, end, a, b in zip(*(column[candidates].tolist() for column in columns), strict=True):
        if starts_taken[start] or ends_taken[end]:
            continue
        one, other = owner[a], owner[b]
        if one != other:
            if joints[one] & joints[other]:
                continue
            moved = members.pop(other, [other])
            for node in moved:
                owner[node] = one
            members.setdefault(one, [one]).extend(moved)
            joints[one] |= joints[other]
        starts_taken[start] = ends_taken[end] = True
    nodes = sorted(node for joined in members.values() for node in joined)
    return np.array(nodes, np.intp), np.array([owner[node] for node in nodes], np.intp)


def _tree(skeleton: Skeleton) -> tuple[NDArray[np.int8], int]:
    """A spanning tree of the joints, and its depth.

    Returns:
        (L,): 1 when the limb's second joint is farther from the root, -1 when its first joint is,
        0 when the limb is not part of the tree.
    """
    outwards = np.zeros(skeleton.num_limbs, np.int8)
    depth: dict[int, int] = {}
    num_limbs = [
        sum(joint in limb for limb in skeleton.limbs) for joint in range(skeleton.num_joints)
    ]
    for root in sorted(range(skeleton.num_joints), key=lambda joint: -num_limbs[joint]):
        if root in depth:
            continue
        depth[root] = 0
        reached = [root]
        for joint in reached:  # grows while it is read
            for limb, (first, second) in enumerate(skeleton.limbs):
                for near, far, direction in ((first, second, 1), (second, first, -1)):
                    if near == joint and far not in depth:
                        depth[far] = depth[joint] + 1
                        outwards[limb] = direction
                        reached.append(far)
    return outwards, max(depth.values())
