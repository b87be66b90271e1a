"""Distances between the peaks that two models predict for the same images."""

from __future__ import annotations

import numpy as np

from .predictor import Floats


def peak_gaps(peaks: Floats, others: Floats) -> Floats:
    """Network pixels from each of `peaks` to the nearest of `others` of its joint: (B, J, P).

    Args:
        peaks: (B, J, P, 3).
        others: (B, J, P, 3), of the other model.

    Returns:
        Infinity where the other model has no peak of the joint; empty places of `peaks` have a
        value, too.
    """
    gaps = np.linalg.norm(peaks[..., :, None, :2] - others[..., None, :, :2], axis=-1)
    return np.where(others[..., None, :, 2] > 0, gaps, np.inf).min(axis=-1).astype(np.float32)
