"""Who is who in video: the same person has the same id from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bodypose_client.formats import DISPLAY_MIN_SCORE
from pose_runtime.poses import Poses

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_JERK_S = 0.1  # a camera's new speed is followed within it
_KNOWN_AFTER = 3  # sightings: the speed of a track is known
_FADE = 0.7  # what a frame leaves of the score of a joint that is not seen any more


@dataclass(frozen=True, slots=True)
class Matching:
    """When a person of a new frame is one of the frames before. Sizes are of the person's body."""

    min_oks: float = 0.2
    min_joints: int = 3  # in both; fewer say too little, unless neither person has more
    min_score: float = DISPLAY_MIN_SCORE  # whoever is less sure gets no new id, but may keep one
    max_age_s: float = 1.0  # an id that was not seen for longer is not given again
    unforeseen: float = 1.5  # sizes a second that a person may be off where it was expected
    unforeseen_of_new: float = 4.0  # the same, while its speed is not known
    unforeseen_most: float = 0.5  # sizes, however long it was away
    jerk: float = 100.0  # pixels a second: a camera that begins to turn moves small people, too
    follow_s: float = 0.15  # a speed is followed within about this time
    coast_s: float = 0.4  # a person out of sight is expected to slow down within this time


@dataclass(slots=True)
class _Track:
    id: int
    keypoints: Floats  # (J, 3), where each joint was last seen, carried along with the person
    size: float
    seen_s: float
    speed: Doubles  # (2,), pixels a second
    sightings: int = 1


@dataclass(slots=True)
class Tracker:
    """Gives each person an id: 1, 2, ... in order of appearance, never given twice.

    A person is looked for where its speed would have brought it. It and a track are alike as far
    as their object keypoint similarity (OKS) goes: the mean, weighted by the joints' scores, over
    the joints of both of exp(-d² / (2 (area k² + u²))): d the joint's distance from where it was
    expected, area the mean of both boxes, k twice the joint's sigma, u how far the person may have
    moved otherwise since. Without u, a person of 50 pixels would be lost at 5 pixels a frame. A new
    track has the median speed of the others: that of a camera that turns.

    People of `min_score` and above are paired first, then the unsure ones with the tracks that are
    left, so that a person that fades for some frames keeps its id. Pairs are taken greedily, the
    most alike first; of equals the older track, then the surer person. Of those who remain, the
    sure ones get new ids. The same frames give the same ids.

    Source of OKS: cocodataset.org, keypoints evaluation, whose area is that of the ground truth. Of
    the second round: Zhang et al. 2022, ByteTrack (arXiv:2110.06864), algorithm 1.
    """

    sigmas: Sequence[float]  # of the skeleton's joints
    matching: Matching = Matching()
    _tracks: list[_Track] = field(default_factory=list)  # oldest first
    _last_id: int = 0

    def update(self, poses: Poses, time_s: float) -> list[int]:
        """The id of each person of the next frame; 0 for an unsure one that is nobody known.

        Args:
            poses: N people, best first, the unsure ones too.
            time_s: when the frame was taken; not earlier than the frame before.
        """
        oldest_s = time_s - self.matching.max_age_s
        self._tracks = [track for track in self._tracks if track.seen_s >= oldest_s]
        sizes, is_sure = _sizes(poses), poses.scores >= self.matching.min_score
        expected = [_expected(track, time_s, self.matching.coast_s) for track in self._tracks]
        oks = self._oks(poses.keypoints, sizes, expected, time_s)
        ids = [0] * len(poses)
        for number, person in _pairs(oks, is_sure, self.matching.min_oks):
            track = self._tracks[number]
            ids[person] = track.id
            self._see(track, expected[number], poses.keypoints[person], sizes[person], time_s)
        common = self._common_speed(time_s)
        for person in np.flatnonzero(is_sure).tolist():
            if not ids[person]:
                ids[person] = self._last_id = self._last_id + 1
                keypoints = poses.keypoints[person].copy()
                track = _Track(self._last_id, keypoints, sizes[person], time_s, common)
                self._tracks.append(track)
        return ids

    def _oks(
        self, keypoints: Floats, sizes: list[float], expected: list[Floats], time_s: float
    ) -> Doubles:
        """(T, N): how much each of T tracks and N people are alike; 0 for too few joints."""
        if not (len(expected) and len(keypoints)):
            return np.zeros((len(expected), len(keypoints)))
        before, now = np.stack(expected)[:, None], keypoints[None]  # (T, 1, J, 3), (1, N, J, 3)
        weights = np.sqrt(before[..., 2] * now[..., 2])
        common = (weights > 0).sum(axis=2)
        most = np.minimum((before[..., 2] > 0).sum(axis=2), (now[..., 2] > 0).sum(axis=2))
        off = np.sum((before[..., :2] - now[..., :2]) ** 2, axis=3)
        track_sizes = np.array([track.size for track in self._tracks])[:, None]
        area = (track_sizes**2 + np.square(np.array(sizes))) / 2
        off_by = [self._unforeseen(track, time_s) for track in self._tracks]
        u = np.array(off_by)[:, None, None]
        spread = area[..., None] * (2 * np.asarray(self.sigmas)) ** 2 + u**2
        alike = np.exp(-off / (2 * spread))
        oks = (alike * weights).sum(axis=2) / np.maximum(weights.sum(axis=2), 1e-9)
        return np.where(common >= np.minimum(self.matching.min_joints, most), oks, 0)

    def _unforeseen(self, track: _Track, time_s: float) -> float:
        """Pixels that a track's person may be off."""
        is_new = track.sightings < _KNOWN_AFTER
        rate = self.matching.unforeseen_of_new if is_new else self.matching.unforeseen
        away_s = time_s - track.seen_s
        sizes = min(rate * away_s, self.matching.unforeseen_most)
        return float(np.hypot(sizes * track.size, self.matching.jerk * min(away_s, _JERK_S)))

    def _see(
        self, track: _Track, expected: Floats, keypoints: Floats, size: float, time_s: float
    ) -> None:
        elapsed = time_s - track.seen_s
        both = (track.keypoints[:, 2] > 0) & (keypoints[:, 2] > 0)
        if elapsed > 0 and both.any():
            moved = np.median(keypoints[both, :2] - track.keypoints[both, :2], axis=0)
            part = 1 - np.exp(-elapsed / self.matching.follow_s)
            part = max(part, 1 / (track.sightings + 1))
            track.speed = (1 - part) * track.speed + part * moved / elapsed
        there = keypoints[:, 2:] > 0
        carried = expected * np.array((1, 1, _FADE), np.float32)
        track.keypoints = np.where(there, keypoints, carried)
        track.size += (size - track.size) / 2
        track.seen_s, track.sightings = time_s, track.sightings + 1

    def _common_speed(self, time_s: float) -> Doubles:
        """Median speed of those who were seen in this frame and before."""
        speeds = [t.speed for t in self._tracks if t.seen_s == time_s and t.sightings > 1]
        return np.median(speeds, axis=0) if speeds else np.zeros(2)


def _pairs(oks: Doubles, is_sure: NDArray[np.bool_], least: float) -> list[tuple[int, int]]:
    """Tracks and people, the most alike first, sure people before all unsure ones."""
    candidates = [
        (not is_sure[person], -oks[track, person], track, person)
        for track, person in np.argwhere(oks >= least).tolist()
    ]
    pairs: dict[int, int] = {}  # person of each track
    for _, _, track, person in sorted(candidates):
        if track not in pairs and person not in pairs.values():
            pairs[track] = person
    return list(pairs.items())


def _expected(track: _Track, time_s: float, coast_s: float) -> Floats:
    """The joints where the track's speed, which fades, would have brought them."""
    coasted_s = coast_s * (1 - np.exp(-(time_s - track.seen_s) / coast_s))
    expected = track.keypoints.copy()
    expected[:, :2] += (track.speed * coasted_s).astype(np.float32)
    return expected


def _sizes(poses: Poses) -> list[float]:
    """Root of the area around all joints, guesses too.

    At least a third of the longer side, for joints in a row, and a pixel, for a single one.
    """
    sizes = []
    for keypoints in poses.keypoints:
        xy = keypoints[keypoints[:, 2] > 0, :2]
        width, height = np.ptp(xy, axis=0).tolist() if len(xy) else (0.0, 0.0)
        sizes.append(max(1.0, float(np.sqrt(width * height)), max(width, height) / 3))
    return sizes
