"""The convention that fits labelled images best: colours, scale, channels of joints and limbs.

A heatmap is high where its joint is labelled. Along a labelled limb the x channel of its fields has
the x of the limb's direction, and the y channel its y: a regression of every channel on both tells
which is which, and the sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.coco import ImageRecord, network_view
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import ImageLimits

from .channels import limb_name
from .foreign_graph import AdoptionError, ForeignNetwork
from .sampling import directions, fields_on, means_along, values_at
from .settings import Background, Colours, Convention, Direction, FieldOrder

Floats = NDArray[np.float32]

# Scales that networks are trained with: mean and divisor of pixels 0..255.
SCALES: Final = (
    ((128.0,), (256.0,)),
    ((0.0,), (255.0,)),
    ((0.0,), (1.0,)),
    ((127.5,), (127.5,)),
    ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
)
_CLEAR = 0.1  # of a heatmap at labels above its mean, of a field's share along its limbs
_MUCH = 1.1  # times as well, below which what is stated stays
_RIDGE = 0.01  # of a direction's variance; limbs that always hang down tell nothing of x
_FEWEST = 3  # labels that tell where a joint or limb is


@dataclass(frozen=True, slots=True)
class Proposal:
    """The best convention; `unsure` names joints and limbs that the labels do not tell."""

    convention: Convention
    heat: float  # mean over joints of their heatmap at labels, above the heatmap's mean
    stated_heat: float | None  # the same, as the person stated it; None: it was not stated
    unsure: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images (B, H, W, 3) as the network gets them, and people (N, J, 3) in network pixels."""

    pixels: NDArray[np.uint8]
    people: tuple[Floats, ...]

    @classmethod
    def of(cls, records: Sequence[ImageRecord], network_hw: tuple[int, int]) -> Labelled:
        pixels, people = [], []
        for record in records:
            image, letterbox = network_view(record, network_hw, ImageLimits())
            joints = record.joints.copy()
            joints[..., :2] = letterbox.to_network(joints[..., :2])
            pixels.append(image)
            people.append(joints)
        return cls(np.stack(pixels), tuple(people))


def propose(
    network: ForeignNetwork, stated: Convention, skeleton: Skeleton, labelled: Labelled
) -> Proposal:
    """The convention that fits best; what the person stated stays where nothing fits much better.

    Raises:
        AdoptionError: too few labels, or no channel has anything to do with them.
    """
    labels = sum((joints[..., 2] > 0).sum(axis=0) for joints in labelled.people)
    if np.max(labels) < _FEWEST:
        raise AdoptionError(
            f"expected a joint with {_FEWEST} labels or more, got none in"
            f" {len(labelled.people)} images; give more labelled people, or raise --limit"
        )
    raw = _with_all_channels(network)
    best_scale, heat, stated_heat = _best_scale(raw, stated, skeleton, labelled)
    heatmaps, affinity = fields_on(raw, best_scale, labelled.pixels)
    hw = network.input.network_hw
    contrast = _contrasts(heatmaps, labelled.people, skeleton, hw)
    if np.nanmax(contrast) < _CLEAR:
        raise AdoptionError(
            "expected heatmaps that are high at the labelled joints, got none; --heatmaps,"
            " --output-layout or --skeleton may be wrong"
        )
    joints, unsure_joints = _joints(contrast, network, skeleton)
    fields, backwards, unsure_limbs = _limbs(
        affinity, labelled.people, network, skeleton, hw, set(joints)
    )
    convention = replace(
        best_scale, **_joint_options(joints, network), **_field_options(fields, backwards)
    )
    return Proposal(convention, heat, stated_heat, (*unsure_joints, *unsure_limbs))


def without_channels(stated: Convention, skeleton: Skeleton) -> Convention:
    """The convention with channels in order where the person stated none, to open a graph with."""
    if stated.combined is not None:
        return stated
    joints = tuple(range(skeleton.num_joints))
    fields = tuple(range(2 * skeleton.num_limbs))
    return replace(
        stated,
        background=None,
        joint_channels=stated.joint_channels or joints,
        field_channels=stated.field_channels or fields,
    )


def as_options(convention: Convention) -> str:
    """The part of a command line that states a proposal."""
    words: list[str] = []
    for name in ("colours", "background", "field_order", "direction"):
        if (value := getattr(convention, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for name in ("mean", "std", "joint_channels", "field_channels", "backwards"):
        if value := getattr(convention, name):
            words += [f"--{name.replace('_', '-')}", ",".join(f"{number:g}" for number in value)]
    return " ".join(words)


def _with_all_channels(network: ForeignNetwork) -> ForeignNetwork:
    outputs = {
        kind: replace(output, channels=tuple(range(output.shape[0])), signs=())
        for kind, output in network.outputs.items()
    }
    return replace(network, outputs=outputs)


def _best_scale(
    raw: ForeignNetwork, stated: Convention, skeleton: Skeleton, labelled: Labelled
) -> tuple[Convention, float, float | None]:
    """Colours and scale whose heatmaps are highest at labels."""
    hw = raw.input.network_hw

    def heat(convention: Convention) -> float:
        heatmaps, _ = fields_on(raw, convention, labelled.pixels)
        if not np.isfinite(heatmaps).all():
            return 0.0
        best = _contrasts(heatmaps, labelled.people, skeleton, hw).max(axis=0)
        return float(np.nanmean(best))

    scales = list(SCALES)
    known = raw.input.is_pixels or (stated.mean is not None and stated.std is not None)
    if raw.input.is_pixels:
        scales = [(None, None)]  # type: ignore[list-item]
    tried = {
        heat(each): each
        for mean, std in scales
        for colours in Colours
        for each in [replace(stated, colours=colours, mean=mean, std=std)]
    }
    best = max(tried)
    if not known or stated.colours is None:
        return tried[best], best, None
    own = heat(stated)
    return (tried[best], best, own) if best > max(_MUCH * own, _CLEAR) else (stated, own, own)


def _contrasts(
    heatmaps: Floats, people: Sequence[Floats], skeleton: Skeleton, hw: tuple[int, int]
) -> Floats:
    """(C, J): a heatmap's mean at labels of a joint, above its mean; NaN where few are labelled."""
    sums = np.zeros((heatmaps.shape[1], skeleton.num_joints), np.float64)
    counts = np.zeros(skeleton.num_joints, int)
    for planes, joints in zip(heatmaps, people, strict=True):
        person, joint = np.nonzero(joints[..., 2] > 0)
        if len(person):
            values = values_at(planes, joints[person, joint, :2], hw)
            np.add.at(sums.T, joint, values.T)
            np.add.at(counts, joint, 1)
    means = sums / np.maximum(counts, 1) - heatmaps.mean(axis=(0, 2, 3))[:, None]
    means[:, counts < _FEWEST] = np.nan
    return means.astype(np.float32)


def _joints(
    contrast: Floats, network: ForeignNetwork, skeleton: Skeleton
) -> tuple[tuple[int, ...], list[str]]:
    """Channel of each joint, the clearest first; joints without labels keep the stated one."""
    stated = network.outputs["heatmaps"].channels
    chosen = _assigned(np.nan_to_num(contrast, nan=-1.0), stated)
    unsure = [name for joint, name in enumerate(skeleton.joints) if joint not in chosen]
    return tuple(chosen.get(joint, stated[joint]) for joint in range(skeleton.num_joints)), unsure


def _limbs(
    affinity: Floats,
    people: Sequence[Floats],
    network: ForeignNetwork,
    skeleton: Skeleton,
    hw: tuple[int, int],
    taken: set[int],
) -> tuple[tuple[int, ...], tuple[int, ...], list[str]]:
    """Channels of x and y of each limb, limbs that point back, and names of those untold."""
    weights = _regressions(affinity, people, skeleton, hw)  # (C, L, 2)
    if network.outputs["heatmaps"].name == network.outputs["affinity"].name:
        weights[list(taken)] = 0
    stated = network.outputs["affinity"].channels
    own, other = np.abs(weights), np.abs(weights[..., ::-1])
    score = np.nan_to_num(own - other, nan=-1.0)  # (C, L, 2)
    chosen = _assigned(score.reshape(len(score), -1), stated)
    channels = tuple(chosen.get(place, stated[place]) for place in range(2 * skeleton.num_limbs))
    backwards, unsure = [], []
    for limb in range(skeleton.num_limbs):
        signs = {
            bool(weights[channels[2 * limb + axis], limb, axis] < 0)
            for axis in (0, 1)
            if 2 * limb + axis in chosen
        }
        if len(signs) != 1 or not {2 * limb, 2 * limb + 1} <= chosen.keys():
            unsure.append(limb_name(skeleton, limb))
        if signs == {True}:
            backwards.append(limb)
    return channels, tuple(backwards), unsure


def _regressions(
    affinity: Floats, people: Sequence[Floats], skeleton: Skeleton, hw: tuple[int, int]
) -> Floats:
    """(C, L, 2): how channels follow x and y of a limb's direction; NaN where few are labelled."""
    weights = np.full((affinity.shape[1], skeleton.num_limbs, 2), np.nan, np.float32)
    for limb, (a, b) in enumerate(skeleton.limbs):
        units, values = [], []
        for planes, joints in zip(affinity, people, strict=True):
            both = (joints[:, a, 2] > 0) & (joints[:, b, 2] > 0)
            start, end = joints[both, a, :2], joints[both, b, :2]
            units.append(directions(start, end))
            values.append(means_along(planes, start, end, hw))
        unit, value = np.concatenate(units), np.concatenate(values, axis=1)
        if len(unit) >= _FEWEST:
            normal = unit.T @ unit + _RIDGE * len(unit) * np.eye(2)
            weights[:, limb] = np.linalg.solve(normal, unit.T @ value.T).T
    return weights


def _assigned(score: Floats, stated: tuple[int, ...]) -> dict[int, int]:
    """Column -> row, the highest scores first, each once, and what is stated before what is alike.

    A column whose scores are too low has none.
    """
    score = score.copy()
    score[list(stated), range(len(stated))] *= _MUCH
    chosen: dict[int, int] = {}
    rows: set[int] = set()
    for place in np.argsort(-score, axis=None, kind="stable"):
        row, column = divmod(int(place), score.shape[1])
        if score[row, column] < _CLEAR:
            break
        if row not in rows and column not in chosen:
            rows.add(row)
            chosen[column] = row
    return chosen


def _joint_options(joints: tuple[int, ...], network: ForeignNetwork) -> dict[str, Any]:
    count = network.outputs["heatmaps"].shape[0]
    in_order = tuple(range(len(joints)))
    if joints == in_order and count in (len(joints), len(joints) + 1):
        background = Background.NONE if count == len(joints) else Background.LAST
        return {"background": background, "joint_channels": None}
    if joints == tuple(joint + 1 for joint in in_order) and count == len(joints) + 1:
        return {"background": Background.FIRST, "joint_channels": None}
    return {"background": None, "joint_channels": joints}


def _field_options(fields: tuple[int, ...], backwards: tuple[int, ...]) -> dict[str, Any]:
    limbs = len(fields) // 2
    options: dict[str, Any] = {"field_order": None, "field_channels": None}
    if fields == tuple(channel ^ 1 for channel in range(2 * limbs)):
        options["field_order"] = FieldOrder.YX
    elif fields != tuple(range(2 * limbs)):
        options["field_channels"] = fields
    if len(backwards) > limbs / 2:
        others = tuple(limb for limb in range(limbs) if limb not in backwards)
        return {**options, "direction": Direction.BACKWARDS, "backwards": others}
    return {**options, "direction": None, "backwards": backwards}
