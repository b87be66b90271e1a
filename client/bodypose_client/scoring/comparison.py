"""The comparison of two sets of results: a paired bootstrap over images.

Both sets are scored on the same resamples (images drawn with replacement, as many as there are),
so what the images themselves vary cancels. The interval is the percentile interval.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .oks_matches import OksMatches

SCHEMA = "bodypose-comparison/1"
DEFAULT_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class ResultsComparison:
    """AP of A and B, and where B - A lies with 95 % confidence."""

    ap_a: float
    ap_b: float
    low: float
    high: float
    images: int
    resamples: int
    seed: int

    @property
    def difference(self) -> float:
        return self.ap_b - self.ap_a

    @property
    def verdict(self) -> str:
        if self.low > 0:
            return "B is better"
        return "A is better" if self.high < 0 else "no difference is shown"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            **asdict(self),
            "difference": self.difference,
            "verdict": self.verdict,
            "method": "paired bootstrap over images, 95 % percentile interval of AP(B) - AP(A)",
        }


def compare(
    a: OksMatches, b: OksMatches, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> ResultsComparison:
    """Compare two sets of results on the same annotated images."""
    random = np.random.default_rng(seed)
    images = len(a.image_ids)
    differences = []
    for _ in range(resamples):
        weights = np.bincount(random.integers(0, images, images), minlength=images)
        if a.people @ weights:
            differences.append(b.average_precision(weights) - a.average_precision(weights))
    low, high = np.percentile(differences, (2.5, 97.5)) if differences else (0.0, 0.0)
    return ResultsComparison(
        a.average_precision(),
        b.average_precision(),
        float(low),
        float(high),
        images,
        len(differences),
        seed,
    )
