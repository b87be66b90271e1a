"""What each channel of an adopted network shows on images without labels, and what looks wrong.

A sound network has a few clear peaks of each joint, and fields that point along the limbs between
them. Every limb is held against every pair of field channels, as it is, turned, and with x and y
exchanged: where another one fits much better, the channels look wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import PipelineSpec

from .sampling import directions, means_along

Floats = NDArray[np.float32]

_BACKGROUND = 0.5  # mean of a heatmap above which it is none of a joint
_CLEAR = 0.3  # of a field along a limb, whose values are up to 1
_MUCH = 1.5  # times as well
_OWN = 0.8  # of the best pair of channels; as good a pair of the limb's own counts
_NAMED = 3  # limbs in a line; of more the number
_MOST_PEAKS = 6  # of a joint in an image that are paired
# Readings of a pair of channels: whether x and y change places, the sign, and the option for it.
READINGS: Final[Mapping[str, tuple[bool, int, str]]] = {
    "": (False, 1, ""),
    "when turned": (False, -1, "--direction or --backwards"),
    "with x and y exchanged": (True, 1, "--field-order"),
    "when turned, with x and y exchanged": (True, -1, "--field-order and --direction"),
}


@dataclass(frozen=True, slots=True)
class JointChannel:
    """A joint's heatmap: its peaks an image, the best one, its mean; `doubt` is empty if sound."""

    joint: str
    peaks: float
    best: float
    mean: float
    doubt: str


@dataclass(frozen=True, slots=True)
class LimbChannels:
    """A limb's fields: the mean along lines between peaks, in -1..1; None: no two peaks."""

    limb: str
    along: float | None
    doubt: str


@dataclass(frozen=True, slots=True)
class ChannelReport:
    """Every channel of a network, and what its images were too few for."""

    images: int
    joints: tuple[JointChannel, ...]
    limbs: tuple[LimbChannels, ...]

    @property
    def doubts(self) -> list[str]:
        """One line for each joint, and for all limbs in which the same looks wrong."""
        found = [f"heatmap of {each.joint}: {each.doubt}" for each in self.joints if each.doubt]
        by_doubt: dict[str, list[str]] = {}
        for each in self.limbs:
            if each.doubt:
                by_doubt.setdefault(each.doubt, []).append(each.limb)
        for doubt, limbs in by_doubt.items():
            many = f"{len(limbs)} of {len(self.limbs)} limbs"
            found.append(f"fields of {many if len(limbs) > _NAMED else ', '.join(limbs)}: {doubt}")
        return found

    def lines(self) -> list[str]:
        """A table of joints and one of limbs."""
        rows = [f"{'heatmap':34} {'peaks':>6} {'best':>6} {'mean':>6}"]
        for joint in self.joints:
            numbers = f"{joint.peaks:6.1f} {joint.best:6.2f} {joint.mean:6.2f}"
            rows.append(f"{joint.joint:34} {numbers}  {joint.doubt}".rstrip())
        rows.append(f"{'fields':34} {'along':>6}")
        for limb in self.limbs:
            along = "     -" if limb.along is None else f"{limb.along:6.2f}"
            rows.append(f"{limb.limb:34} {along}  {limb.doubt}".rstrip())
        return rows

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def channel_report(
    peaks: Floats, heatmaps: Floats, affinity: Floats, pipeline: PipelineSpec
) -> ChannelReport:
    """What the channels show.

    Args:
        peaks: (B, J, P, 3) of the decoding layers.
        heatmaps: (B, J or more, h, w).
        affinity: (B, 2L, h', w').
        pipeline: skeleton, thresholds and input size.
    """
    skeleton = pipeline.skeleton
    sure = peaks[..., 2] >= pipeline.grouping.min_peak_score
    joints = tuple(
        _joint(name, peaks[:, joint], sure[:, joint], heatmaps[:, joint])
        for joint, name in enumerate(skeleton.joints)
    )
    fits, seen = limb_fits(peaks, sure, affinity, pipeline)
    limbs = tuple(_limb(skeleton, limb, fits[limb], bool(seen[limb])) for limb in range(len(fits)))
    return ChannelReport(len(peaks), joints, limbs)


def limb_fits(
    peaks: Floats, sure: NDArray[np.bool_], affinity: Floats, pipeline: PipelineSpec
) -> tuple[Floats, NDArray[np.intp]]:
    """How well every pair of channels fits every limb in every reading.

    Returns:
        (L, L, 4): limb, pair of channels, reading: the mean over peaks of the first joint of the
        best line to a peak of the second; and (L,), the number of these peaks.
    """
    limbs = pipeline.skeleton.limbs
    sums = np.zeros((len(limbs), len(limbs), len(READINGS)), np.float32)
    seen = np.zeros(len(limbs), np.intp)
    for image, planes in enumerate(affinity):
        for limb, (a, b) in enumerate(limbs):
            start, end = (
                peaks[image, joint][sure[image, joint]][:_MOST_PEAKS, :2] for joint in (a, b)
            )
            if not len(start) or not len(end):
                continue
            lines = start[:, None], np.broadcast_to(end[None], (len(start), *end.shape))
            means = means_along(planes, *lines, pipeline.network_hw)
            pairs = means.reshape(-1, 2, *means.shape[1:])  # (L, 2, peaks, peaks)
            unit_x, unit_y = np.moveaxis(directions(*lines), -1, 0)
            straight = pairs[:, 0] * unit_x + pairs[:, 1] * unit_y
            exchanged = pairs[:, 1] * unit_x + pairs[:, 0] * unit_y
            for reading, (is_exchanged, sign, _) in enumerate(READINGS.values()):
                along = sign * (exchanged if is_exchanged else straight)
                sums[limb, :, reading] += along.max(axis=-1).sum(axis=-1)
            seen[limb] += len(start)
    return sums / np.maximum(seen, 1)[:, None, None], seen


def _joint(name: str, peaks: Floats, sure: NDArray[np.bool_], heatmap: Floats) -> JointChannel:
    count, best, mean = float(sure.sum(axis=1).mean()), float(peaks[..., 2].max()), heatmap.mean()
    doubt = ""
    if mean > _BACKGROUND:
        doubt = "looks like the background; see --background and --joint-channels"
    elif not sure.any():
        doubt = "no peaks; see --colours, --mean and --std, or give photos with this joint"
    elif count > max(peaks.shape[1] / 2, _MOST_PEAKS):
        doubt = "peaks everywhere; see --mean and --std"
    return JointChannel(name, round(count, 2), round(best, 4), round(float(mean), 4), doubt)


def _limb(skeleton: Skeleton, limb: int, fits: Floats, seen: bool) -> LimbChannels:
    name = limb_name(skeleton, limb)
    if not seen:
        return LimbChannels(name, None, "")
    own = float(fits[limb, 0])
    place = np.array([limb, fits[limb].argmax()])
    if fits[tuple(place)] < _OWN * fits.max():
        place = np.array(np.unravel_index(int(fits.argmax()), fits.shape))
    pair, reading = place.tolist()
    best, doubt = float(fits[pair, reading]), ""
    if [pair, reading] != [limb, 0] and best > max(_CLEAR, _MUCH * own):
        how, (_, _, option) = list(READINGS.items())[reading]
        if pair == limb:
            doubt = f"point along them {how}; see {option}"
        else:
            others = limb_name(skeleton, pair)
            fit = f"those of {others} fit {how}".strip()
            doubt = f"{fit}; see --field-channels and --joint-channels"
    elif own < _CLEAR / 2:
        doubt = "do not point along them; see --field-channels"
    return LimbChannels(name, round(own, 4), doubt)


def limb_name(skeleton: Skeleton, limb: int) -> str:
    """A limb by its joints."""
    a, b = skeleton.limbs[limb]
    return f"{skeleton.joints[a]} - {skeleton.joints[b]}"
