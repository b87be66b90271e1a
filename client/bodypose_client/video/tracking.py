"""Owns who is who in video: the same person has the same id from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pose_runtime.poses import Poses

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Matching:
    """When a person of a new frame is one of the frames before."""

    min_oks: float = 0.2
    min_joints: int = 3  # found in both; fewer say too little, unless neither person has more
    max_age_s: float = 1.0  # an id that was not seen for longer is not given again


@dataclass(slots=True)
class _Track:
    id: int
    keypoints: Floats  # (J, 3), where the person was last seen
    area: float
    seen_s: float


@dataclass(slots=True)
class Tracker:
    """Gives each person an id: 1, 2, ... in order of appearance, never given twice.

    A person of the new frame and a track are alike as far as their object keypoint similarity (OKS)
    goes: the mean over the joints found in both of exp(-d² / (2 area k²)), d the joint's way since
    the track was last seen, area the mean of both boxes, k twice the joint's sigma. Pairs are taken
    greedily, the most alike first; of equals the older track, then the surer person. Whoever
    remains gets a new id. The same frames give the same ids.

    Source of OKS: cocodataset.org, keypoints evaluation, whose area is that of the ground truth.
    """

    sigmas: Sequence[float]  # of the skeleton's joints
    matching: Matching = Matching()
    _tracks: list[_Track] = field(default_factory=list)  # oldest first
    _last_id: int = 0

    def update(self, poses: Poses, time_s: float) -> list[int]:
        """The id of each person of the next frame.

        Args:
            poses: N people, best first.
            time_s: when the frame was taken; not earlier than the frame before.
        """
        oldest_s = time_s - self.matching.max_age_s
        self._tracks = [track for track in self._tracks if track.seen_s >= oldest_s]
        areas = _areas(poses)
        ids = [0] * len(poses)
        for track, person in self._pairs(poses, areas):
            ids[person] = track.id
            track.keypoints, track.area = poses.keypoints[person], areas[person]
            track.seen_s = time_s
        for person, taken in enumerate(ids):
            if not taken:
                self._last_id += 1
                ids[person] = self._last_id
                keypoints = poses.keypoints[person]
                self._tracks.append(_Track(self._last_id, keypoints, areas[person], time_s))
        return ids

    def _pairs(self, poses: Poses, areas: list[float]) -> list[tuple[_Track, int]]:
        candidates = [
            (oks, track_number, person)
            for track_number, track in enumerate(self._tracks)
            for person in range(len(poses))
            if (oks := self._oks(track, poses.keypoints[person], areas[person]))
            >= self.matching.min_oks
        ]
        candidates.sort(key=lambda pair: (-pair[0], *pair[1:]))
        pairs: dict[int, int] = {}  # person of each track
        for _, track_number, person in candidates:
            if track_number not in pairs and person not in pairs.values():
                pairs[track_number] = person
        return [(self._tracks[number], person) for number, person in pairs.items()]

    def _oks(self, track: _Track, keypoints: Floats, area: float) -> float:
        before, now = track.keypoints[:, 2] > 0, keypoints[:, 2] > 0
        both = before & now
        if both.sum() < max(1, min(self.matching.min_joints, before.sum(), now.sum())):
            return 0.0
        moved = np.sum((track.keypoints[both, :2] - keypoints[both, :2]) ** 2, axis=1)
        spread = (2 * np.asarray(self.sigmas)[both]) ** 2
        mean_area = (track.area + area) / 2
        return float(np.exp(-moved / (2 * mean_area * spread)).mean())


def _areas(poses: Poses) -> list[float]:
    """Of each person's box; at least a pixel, so that a person of one joint has one."""
    return [max(1.0, float(width * height)) for _, _, width, height in poses.boxes]
