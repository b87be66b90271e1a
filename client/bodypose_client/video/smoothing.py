"""Joints smoothed over time: a One-Euro filter for each joint of each track."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pose_runtime.poses import Poses

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OneEuro:
    """How much is smoothed. Speeds are in body sizes a second, so that size does not matter."""

    min_cutoff_hz: float = 1.5  # of a joint at rest: lower is steadier
    speed_coefficient: float = 2.5  # Hz per body size/s: higher follows a fast joint sooner
    speed_cutoff_hz: float = 1.0
    forget_s: float = 0.5  # a joint that was away longer starts anew


@dataclass(slots=True)
class Smoother:
    """A One-Euro filter for every joint of every track.

    For each coordinate x that comes Te seconds after the one before, with a(fc) the smoothing
    factor of a first-order low-pass filter (the paper's equations 1 to 6):

        a(fc)  = 1 / (1 + tau / Te),  tau = 1 / (2 pi fc)
        speed' = a(speed_cutoff) * (x - x_before) / Te + (1 - a(speed_cutoff)) * speed'_before
        fc     = min_cutoff + speed_coefficient * |speed'|
        x'     = a(fc) * x + (1 - a(fc)) * x'_before

    A joint at rest is smoothed much and does not tremble; a fast one little, and does not lag.
    x_before is the smoothed value, as in the authors' own code. Ours: |speed'| is the length of the
    joint's (x, y) speed, so that a direction is kept, and is measured in the person's size (root of
    the area of its box), so that the settings hold for a child in the distance and for 4K.

    A joint that is not found stays (0, 0, 0); when it comes back within `forget_s`, Te is the time
    since it was last seen. Scores are not smoothed.

    Source: Casiez, Roussel, Vogel: 1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input
    in Interactive Systems. CHI 2012.
    """

    settings: OneEuro = OneEuro()
    _tracks: dict[int, _Joints] = field(default_factory=dict)

    def smooth(self, poses: Poses, track_ids: Iterable[int], time_s: float) -> Poses:
        """The people of one frame, steadied; frames come in the order of their time.

        Args:
            poses: N people.
            track_ids: of each of them; see `tracking.Tracker`.
            time_s: when the frame was taken.
        """
        smoothed = poses.keypoints.copy()
        for person, (track_id, box) in enumerate(zip(track_ids, poses.boxes, strict=True)):
            joints = self._tracks.setdefault(track_id, _Joints.unseen(poses.keypoints.shape[1]))
            size = max(1.0, float(np.sqrt(box[2] * box[3])))
            joints.see(smoothed[person], time_s, size, self.settings)
        self._forget(time_s)
        return Poses(smoothed, poses.scores)

    def _forget(self, time_s: float) -> None:
        stale = time_s - self.settings.forget_s
        self._tracks = {
            track_id: joints
            for track_id, joints in self._tracks.items()
            if joints.seen_s.max(initial=-np.inf) >= stale
        }


@dataclass(slots=True)
class _Joints:
    """What the filter remembers of one person's J joints."""

    xy: NDArray[np.float64]  # (J, 2), smoothed
    speed: NDArray[np.float64]  # (J, 2), smoothed, pixels a second
    seen_s: NDArray[np.float64]  # (J,), -inf: never

    @classmethod
    def unseen(cls, num_joints: int) -> _Joints:
        return cls(
            np.zeros((num_joints, 2)), np.zeros((num_joints, 2)), np.full(num_joints, -np.inf)
        )

    def see(self, keypoints: Floats, time_s: float, size: float, settings: OneEuro) -> None:
        """Smooth (J, 3) in place, and remember it."""
        found = keypoints[:, 2] > 0
        elapsed = time_s - self.seen_s
        known = found & (elapsed > 0) & (elapsed <= settings.forget_s)
        new = found & ~known
        self.speed[new] = 0
        self.xy[new] = keypoints[new, :2]
        te = elapsed[known, None]
        xy, before = keypoints[known, :2], self.xy[known]
        a = _factor(np.full_like(te, settings.speed_cutoff_hz), te)
        self.speed[known] = a * (xy - before) / te + (1 - a) * self.speed[known]
        speed = np.linalg.norm(self.speed[known], axis=1, keepdims=True) / size
        a = _factor(settings.min_cutoff_hz + settings.speed_coefficient * speed, te)
        self.xy[known] = a * xy + (1 - a) * before
        self.seen_s[found] = time_s
        keypoints[found, :2] = self.xy[found]


def _factor(cutoff_hz: NDArray[np.float64], te: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * te))
