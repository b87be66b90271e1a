"""Synthetic peaks and limb scores: of crowds, as from perfect fields, and of noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose_runtime.spec import PipelineSpec

Floats = NDArray[np.float32]


def with_peaks(spec: PipelineSpec, num_people: int) -> PipelineSpec:
    """`spec` with limits that allow `num_people` people."""
    room = max(spec.max_peaks, num_people)
    return replace(spec, max_peaks=room, max_people=max(spec.max_people, num_people))


def crowd(spec: PipelineSpec, num_people: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Peaks (J, P, 3) and limb scores (L, P, P) of people with all joints and limbs.

    The peaks of a joint are in order of their score, as from the network.
    """
    random = np.random.default_rng(seed)
    joints, limbs, room = spec.skeleton.num_joints, spec.skeleton.num_limbs, spec.max_peaks
    height, width = spec.network_hw
    peaks = np.zeros((joints, room, 3), np.float32)
    limb_scores = np.zeros((limbs, room, room), np.float32)
    scores = random.uniform(0.4, 1, (joints, num_people))
    owners = np.argsort(-scores, axis=1)  # (J, N): the person of each peak
    size = (width * height / max(num_people, 1)) ** 0.5
    centres = random.uniform((0.0, 0.0), (width, height), (num_people, 2))
    around = random.uniform(-size / 2, size / 2, (joints, 2))
    for joint in range(joints):
        mine = owners[joint]
        peaks[joint, :num_people, :2] = np.clip(centres[mine] + around[joint], 0, (width, height))
        peaks[joint, :num_people, 2] = scores[joint, mine]
    place = np.argsort(owners, axis=1)  # (J, N): the peak of each person
    for limb, (first, second) in enumerate(spec.skeleton.limbs):
        strength = random.uniform(0.5, 1, num_people)
        limb_scores[limb, place[first], place[second]] = strength
    return peaks, limb_scores


def noise(spec: PipelineSpec, seed: int = 0) -> tuple[Floats, Floats]:
    """The worst case for grouping: all peaks exist, and all pairs of them have a limb score."""
    random = np.random.default_rng(seed)
    peaks = random.uniform(0.2, 1, spec.peaks.dims).astype(np.float32)
    return peaks, random.uniform(0.1, 1, spec.limb_scores.dims).astype(np.float32)
