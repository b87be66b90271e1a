"""Owns the comparison that DESIGN section 3 asks for: where limbs are scored.

One way is the shipped one: the graph scores every pair of peaks. The other would let the graph
give peaks and float16 part affinity fields, and grouping score only pairs of peaks that exist. It
lives here, not in `pose_runtime`, as the side that lost.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.runtimes.clock import milliseconds, take_turns
from pose_runtime.spec import PipelineSpec

from .conditions import Setting
from .crowds import crowd

_STRIDE = 8
_SAMPLES = 10
_MIN_AFFINITY, _MIN_ON_LIMB = 0.05, 0.8
_PEOPLE = (1, 3, 10, 20)

Floats = NDArray[np.float32]


def measure(setting: Setting) -> dict[str, Any]:
    """CPU time of scoring in grouping by people per image, and the bytes that each way sends."""
    spec = setting.spec
    height, width = (side // _STRIDE for side in spec.network_hw)
    channels = 2 * spec.skeleton.num_limbs
    affinity = np.random.default_rng(0).uniform(-1, 1, (channels, height, width))
    field = affinity.astype(np.float16)
    spent = {}
    for num_people in _PEOPLE:
        peaks, _ = crowd(spec, num_people)
        score = partial(scores_of_existing_pairs, field, peaks, spec)
        seconds = take_turns({"score": score}, rounds=setting.pick(20, 60), repeats=3)
        spent[str(num_people)] = milliseconds(seconds["score"])
    peak_bytes = 4 * int(np.prod(spec.peaks.dims))
    return {
        "in_grouping_by_people": spent,
        "bytes_scored_in_graph": peak_bytes + 4 * int(np.prod(spec.limb_scores.dims)),
        "bytes_scored_in_grouping": peak_bytes + field.nbytes,
    }


def scores_of_existing_pairs(
    field: NDArray[np.float16], peaks: Floats, spec: PipelineSpec
) -> Floats:
    """(L, P, P), as `LimbScorer`, from (2L, h, w) and (J, P, 3)."""
    height, width = field.shape[1:]
    limbs = np.array(spec.skeleton.limbs)
    exists = peaks[:, :, 2] >= spec.grouping.min_peak_score
    pairs = exists[limbs[:, 0], :, None] & exists[limbs[:, 1], None, :]
    limb, first, second = pairs.nonzero()
    start = peaks[limbs[limb, 0], first, :2] / _STRIDE
    line = peaks[limbs[limb, 1], second, :2] / _STRIDE - start
    steps = np.linspace(0, 1, _SAMPLES, dtype=np.float32)[:, None]
    column = np.clip(start[:, 0] + line[:, 0] * steps, 0, width - 0.01).astype(np.intp)
    row = np.clip(start[:, 1] + line[:, 1] * steps, 0, height - 0.01).astype(np.intp)
    where = 2 * limb * (height * width) + row * width + column
    flat = field.ravel()
    unit = line / np.maximum(np.linalg.norm(line, axis=1, keepdims=True), 1e-3)
    along = flat[where] * unit[:, 0] + flat[where + height * width] * unit[:, 1]
    on_limb = (along > _MIN_AFFINITY).mean(axis=0) >= _MIN_ON_LIMB - 1e-6
    scores = np.zeros(pairs.shape, np.float32)
    scores[limb, first, second] = np.clip(along.mean(axis=0), 0, 1) * on_limb
    return scores
