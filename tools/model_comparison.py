"""Owns the comparison of two models on the same images: outputs, and where their joints are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import PoseError

from .accuracy_gate import peak_agreement
from .evaluate import open_predictor

Floats = NDArray[np.float32]


class ComparisonError(PoseError):
    """Two models that have nothing to compare."""


def compare_models(one: Path, other: Path, images: NDArray[np.uint8]) -> dict[str, Any]:
    """Errors of the second model against the first, as a record for JSON.

    Args:
        one: `.keras` or `.onnx` with decoding layers; the reference.
        other: the same, of the same skeleton, input size and number of peaks.
        images: (B, H, W, 3) letterboxed for `one`.

    Raises:
        ComparisonError: the two models' tensors differ.
    """
    sides = [open_predictor(path) for path in (one, other)]
    spec, second = sides[0][1], sides[1][1]
    contracts = [(s.pixels, s.peaks, s.limb_scores) for s in (spec, second)]
    if contracts[0] != contracts[1]:
        raise ComparisonError(f"expected the tensors of {one}, got {other} with {contracts[1]}")
    answers = [
        [np.concatenate(output) for output in zip(*(predict(i[None]) for i in images), strict=True)]
        for predict, _, _ in sides
    ]
    (peaks, limbs), (other_peaks, other_limbs) = answers
    threshold = spec.grouping.min_peak_score
    shifts = joint_shifts(peaks, other_peaks, threshold)
    return {
        "schema": "bodypose-comparison/1",
        "models": [{"name": a.path.name, "sha256": a.sha256} for _, _, a in sides],
        "images": len(images),
        "outputs": {
            "peak scores": _errors(peaks[..., 2], other_peaks[..., 2]),
            spec.limb_scores.name: _errors(limbs, other_limbs),
        },
        "joints": {
            "compared": len(shifts),
            "agreement": peak_agreement(peaks, other_peaks, threshold),
            "shift_px": {
                name: round(float(np.percentile(shifts, q)), 3) if len(shifts) else None
                for name, q in (("median", 50), ("p95", 95), ("max", 100))
            },
        },
    }


def joint_shifts(peaks: Floats, others: Floats, min_score: float) -> Floats:
    """Network pixels from each peak of (B, J, P, 3) to the nearest of the other model.

    Peaks of images and joints where the other model has none are left out: agreement counts them.
    """
    shifts = []
    for image, joint, peak in np.argwhere(peaks[..., 2] >= min_score):
        candidates = others[image, joint]
        candidates = candidates[candidates[:, 2] > 0, :2]
        if len(candidates):
            gaps = np.linalg.norm(candidates - peaks[image, joint, peak, :2], axis=1)
            shifts.append(gaps.min())
    return np.array(shifts, np.float32)


def _errors(ours: Floats, theirs: Floats) -> dict[str, float]:
    difference = np.abs(ours - theirs)
    return {"mean": round(float(difference.mean()), 6), "max": round(float(difference.max()), 6)}
