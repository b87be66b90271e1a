"""Matches of found and annotated people by OKS, and what follows from them by image.

pycocotools matches once; average precision over any weighting of the images is then a few
cumulative sums. An image of weight 2 counts as if it were there twice: exactly what a bootstrap
resample or a group of images needs. The parity with pycocotools is a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints64 = NDArray[np.int64]

_RECALLS = np.linspace(0, 1, 101)
_OKS_THRESHOLDS = 10  # 0.50 to 0.95


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OksMatches:
    """D found people, surest first, and I images. T = 10 OKS thresholds, 0.50 to 0.95.

    image_ids: (I,)
    people:    (I,) annotated people who count, in each image.
    image:     (D,) index into image_ids.
    scores:    (D,)
    right:     (T, D) matches an annotated person who counts.
    wrong:     (T, D) matches nobody; the rest match crowds or people without labelled joints.
    """

    image_ids: Ints64
    people: Ints64
    image: Ints64
    scores: Floats64
    right: Bools
    wrong: Bools

    def average_precision(self, weights: NDArray[Any] | None = None) -> float:
        """COCO's AP in 0..1 over images that count `weights` (I,) times; -1 without people."""
        weights = np.ones(len(self.people)) if weights is None else weights
        people = float(self.people @ weights)
        if not people:
            return -1.0
        if not len(self.scores):
            return 0.0
        weight = weights[self.image]
        right = np.cumsum(self.right * weight, axis=1, dtype=np.float64)
        wrong = np.cumsum(self.wrong * weight, axis=1, dtype=np.float64)
        precision = right / np.maximum(right + wrong, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        total = 0.0
        for recall, best in zip(right / people, envelope, strict=True):
            at = np.searchsorted(recall, _RECALLS, side="left")
            total += best[at[at < len(best)]].sum()
        return total / (len(_RECALLS) * len(self.right))

    def image_scores(self, min_score: float) -> list[ImageScore]:
        """How each image went, counting only people at or above `min_score`."""
        shown = self.scores >= min_score
        right, wrong = (
            np.stack([np.bincount(self.image, row & shown, len(self.people)) for row in rows])
            for rows in (self.right, self.wrong)
        )
        asked = right + wrong + self.people  # (T, I)
        f1 = np.where(asked > 0, 2 * right / np.maximum(asked, 1), 1.0).mean(axis=0)
        return [
            ImageScore(
                int(image_id),
                float(f1[index]),
                int(self.people[index]),
                int(self.people[index] - right[0, index]),
                int(wrong[0, index]),
            )
            for index, image_id in enumerate(self.image_ids)
        ]


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image: F1 is the mean over the OKS thresholds, the counts are at OKS 0.50."""

    image_id: int
    f1: float
    people: int
    missed: int
    invented: int


def worst_images(scores: Sequence[ImageScore], count: int) -> list[ImageScore]:
    """The `count` images that went worst; of equals, those with more mistakes."""
    return sorted(scores, key=lambda s: (s.f1, -s.missed - s.invented, s.image_id))[:count]


def matches_of(
    image_ids: Sequence[int],
    people: Mapping[int, int],
    evaluated: Sequence[Mapping[str, Any] | None],
) -> OksMatches:
    """From pycocotools' `evalImgs` of one area range.

    Args:
        image_ids: in its order.
        people: who count, of each image.
        evaluated: one entry for each image, None where there is nobody; empty: nobody was found.
    """
    entries = [(index, entry) for index, entry in enumerate(evaluated) if entry is not None]
    scores = np.concatenate([np.zeros(0), *(entry["dtScores"] for _, entry in entries)])
    nobody = np.zeros((_OKS_THRESHOLDS, 0))
    matched = np.concatenate([nobody, *(entry["dtMatches"] for _, entry in entries)], axis=1) > 0
    ignored = np.concatenate([nobody, *(entry["dtIgnore"] for _, entry in entries)], axis=1) > 0
    image = np.repeat(
        np.array([index for index, _ in entries], np.int64),
        [len(entry["dtScores"]) for _, entry in entries],
    )
    order = np.argsort(-scores, kind="mergesort")
    return OksMatches(
        np.array(image_ids, np.int64),
        np.array([people.get(image_id, 0) for image_id in image_ids], np.int64),
        image[order],
        scores[order],
        (matched & ~ignored)[:, order],
        (~matched & ~ignored)[:, order],
    )
