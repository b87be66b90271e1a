"""Fields of one image moved between frames: to another scale, and back from the mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.networks.fields import Fields
from pose_runtime.errors import PoseError
from pose_runtime.letterbox import Letterbox
from pose_runtime.skeleton import Skeleton

Floats = NDArray[np.float32]


class MirrorError(PoseError):
    """A skeleton whose limbs have no mirror images among them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image lies in a network's input."""

    network_hw: tuple[int, int]
    letterbox: Letterbox


def last_stage(outputs: Sequence[Floats]) -> Fields:
    """The fields that are decoded, of one image: (h, w, C) each."""
    fields = Fields.of(outputs)
    centres = [part[0] for part in (fields.centre, fields.offsets) if part is not None]
    return Fields((fields.heatmaps[-1][0],), (fields.affinity[-1][0],), *centres)


def mean_fields(answers: Sequence[Fields]) -> Fields:
    """The mean of one image's fields in one frame."""
    return Fields(
        (_mean([answer.heatmaps[0] for answer in answers]),),
        (_mean([answer.affinity[0] for answer in answers]),),
        *(
            None if answers[0].centre is None else _mean([getattr(a, name) for a in answers])
            for name in ("centre", "offsets")
        ),
    )


def _mean(fields: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(np.stack(fields), axis=0), np.float32)


def in_frame(fields: Fields, own: Frame, wanted: Frame) -> Fields:
    """One image's fields as they are in another frame, bilinear; strides stay what they are."""
    if own == wanted:
        return fields
    zoom = wanted.letterbox.scale / own.letterbox.scale
    return Fields(
        (_resampled(fields.heatmaps[0], own, wanted),),
        (_resampled(fields.affinity[0], own, wanted),),
        None if fields.centre is None else _resampled(fields.centre, own, wanted),
        None if fields.offsets is None else _resampled(fields.offsets, own, wanted) * zoom,
    )


def _resampled(field: Floats, own: Frame, wanted: Frame) -> Floats:
    """(h, w, C) to (h', w', C): each cell's value is taken where its centre lies in `field`."""
    stride = own.network_hw[0] // field.shape[0]
    moved = field
    for axis in (0, 1):
        size = wanted.network_hw[axis] // stride
        xy = 1 - axis  # letterbox offsets are x, y
        network_px = (np.arange(size) + 0.5) * stride
        image_px = (network_px - wanted.letterbox.offset_xy[xy]) / wanted.letterbox.scale
        cells = (image_px * own.letterbox.scale + own.letterbox.offset_xy[xy]) / stride - 0.5
        cells = np.clip(cells, 0, moved.shape[axis] - 1)
        before = np.minimum(cells.astype(int), max(moved.shape[axis] - 2, 0))
        after = np.minimum(before + 1, moved.shape[axis] - 1)
        share = (cells - before).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        moved = moved.take(before, axis) * (1 - share) + moved.take(after, axis) * share
    return np.asarray(moved, np.float32)


def unmirrored(fields: Fields, skeleton: Skeleton) -> Fields:
    """The fields of a mirrored image as fields of the image itself."""
    joints = [*skeleton.mirror, skeleton.num_joints]  # the background stays
    limbs, signs = mirrored_limbs(skeleton)
    channels = np.stack([2 * limbs, 2 * limbs + 1], axis=1).ravel()
    turned = np.stack([-signs, signs], axis=1).ravel()  # x points the other way
    offsets = None
    if fields.offsets is not None:
        mirror = np.array(skeleton.mirror)
        pairs = np.stack([2 * mirror, 2 * mirror + 1], axis=1).ravel()
        away = np.tile(np.array([-1, 1], np.float32), skeleton.num_joints)
        offsets = fields.offsets[:, ::-1, pairs] * away
    return Fields(
        (fields.heatmaps[0][:, ::-1, joints],),
        (fields.affinity[0][:, ::-1, channels] * turned,),
        None if fields.centre is None else fields.centre[:, ::-1],
        offsets,
    )


def mirrored_limbs(skeleton: Skeleton) -> tuple[NDArray[np.int64], Floats]:
    """For each limb the index of its mirror image, and -1 where that has the opposite direction.

    Raises:
        MirrorError: the mirror image of a limb is no limb.
    """
    places, signs = [], []
    for a, b in skeleton.limbs:
        ends = skeleton.mirror[a], skeleton.mirror[b]
        if ends in skeleton.limbs:
            places.append(skeleton.limbs.index(ends))
            signs.append(1)
        elif ends[::-1] in skeleton.limbs:
            places.append(skeleton.limbs.index(ends[::-1]))
            signs.append(-1)
        else:
            names = [
                " to ".join(skeleton.joints[joint] for joint in pair) for pair in ((a, b), ends)
            ]
            raise MirrorError(
                f"flip: expected a limb from {names[1]} beside {names[0]} in skeleton"
                f" {skeleton.name}, got none; evaluate without --flip"
            )
    return np.array(places), np.asarray(signs, np.float32)
