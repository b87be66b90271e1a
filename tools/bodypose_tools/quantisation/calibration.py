"""Calibration: the range of every activation on real images, as one scale per tensor.

A network runs one image at a time with its activations as outputs, and each activation is counted
in a histogram of fixed size at once, so memory depends on neither the number of images nor their
batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import PoseError

from .settings import Method

QUANTISED_MAX = 127  # symmetric INT8: -127..127
NUM_BINS = 4096
_LEVELS = QUANTISED_MAX + 1  # levels of an absolute value
_PERCENTILE = 99.99
_THREADS = 4  # that count values; each copies one activation

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class CalibrationError(PoseError):
    """There are too few images, or a calibration file belongs to something else."""


@dataclass(slots=True, eq=False)
class Histogram:
    """Absolute values of one tensor, in `NUM_BINS` bins from 0 to `reach`.

    A value beyond `reach` doubles it and merges the bins in pairs: one pass over the images is
    enough, nothing is clipped, and at least half of the bins are in use.
    """

    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(NUM_BINS))
    reach: float = 0.0
    largest: float = 0.0

    def add(self, values: Floats) -> None:
        """Count the values of one image.

        Raises:
            CalibrationError: a value is not finite.
        """
        largest = float(max(values.max(), -values.min()))
        if not np.isfinite(largest):
            raise CalibrationError("expected finite activations, got NaN or infinity")
        self.largest = max(self.largest, largest)
        if self.reach == 0.0:
            self.reach = largest
        if self.reach == 0.0:
            self.counts[0] += values.size
            return
        while self.reach < largest:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(NUM_BINS // 2)])
            self.reach *= 2
        magnitudes = np.abs(values).reshape(1, -1)
        # OpenCV's upper end is open; the largest value belongs to the last bin.
        end = float(np.nextafter(np.float32(self.reach), np.float32(np.inf)))
        counted = cv2.calcHist([magnitudes], [0], None, [NUM_BINS], [0.0, end])
        self.counts += counted[:, 0]

    def limit(self, method: Method) -> float:
        """The absolute value that becomes 127; larger ones are clipped. 0 where all is zero."""
        if self.largest == 0.0:
            return 0.0
        if method is Method.MAX:
            return self.largest
        width = self.reach / NUM_BINS
        if method is Method.PERCENTILE:
            share = np.cumsum(self.counts) / self.counts.sum()
            kept = int(np.searchsorted(share, _PERCENTILE / 100)) + 1
        else:
            kept = _least_divergence(self.counts)
        return min(kept * width, self.largest)


def _least_divergence(counts: NDArray[np.float64]) -> int:
    """The number of bins to keep so that 128 levels of them diverge least from the distribution.

    Zeros are not counted: every scale represents them exactly, and half of the values after a
    rectifier are zeros.

    Source: Migacz 2017, "8-bit inference with TensorRT" (GTC), the calibration by
    Kullback-Leibler divergence; candidates every 16 bins.
    """
    counts = counts.copy()
    counts[0] = 0
    used = int(np.nonzero(counts)[0].max(initial=0)) + 1
    best, kept = np.inf, used
    for candidate in range(_LEVELS, used + 16, 16):
        candidate = min(candidate, used)
        divergence = _divergence(counts, candidate)
        if divergence < best:
            best, kept = divergence, candidate
    return kept


def _divergence(counts: NDArray[np.float64], kept: int) -> float:
    """KL divergence of the kept bins, with all larger values in the last, from their 128 levels."""
    inside = counts[:kept]
    reference = inside.copy()
    reference[-1] += counts[kept:].sum()
    level = np.arange(kept) * _LEVELS // kept
    filled = (inside > 0).astype(np.float64)
    total = np.bincount(level, inside, minlength=_LEVELS)
    cells = np.bincount(level, filled, minlength=_LEVELS)
    quantised = (total / np.maximum(cells, 1))[level] * filled
    present = reference > 0
    if not quantised.any() or not present.any():
        return float("inf")
    p = reference[present] / reference.sum()
    q = np.maximum(quantised[present] / quantised.sum(), 1e-9)
    return float((p * np.log(p / q)).sum())


Activations = Callable[[Pixels], Sequence[Floats]]  # one image (H, W, 3) -> values by tensor


class Ranges:
    """Histograms of several tensors, which give scales after any number of images.

    Memory holds the activations of one image.
    """

    def __init__(self, names: Sequence[str], activations: Activations) -> None:
        """Watch the tensors `names`, whose values `activations` returns for one image."""
        self._histograms = {name: Histogram() for name in names}
        self._activations = activations
        self._seen = 0

    def add(self, images: Iterable[Pixels]) -> None:
        """Count the activations of images, each (H, W, 3) uint8.

        Raises:
            CalibrationError: an activation is not finite.
        """
        with ThreadPoolExecutor(_THREADS) as threads:
            for image in images:
                self._seen += 1
                list(threads.map(self._count, self._histograms, self._activations(image)))

    def _count(self, name: str, values: Floats) -> None:
        try:
            self._histograms[name].add(values)
        except CalibrationError as error:
            raise CalibrationError(f"{name}: {error}") from error

    def scales(self, method: Method) -> dict[str, float]:
        """One scale per tensor: the value of one of its 127 levels.

        Args:
            method: how a range is chosen from a histogram.

        Raises:
            CalibrationError: no image was added.
        """
        if not self._seen:
            raise CalibrationError("expected calibration images, got none")
        limits = {name: counted.limit(method) for name, counted in self._histograms.items()}
        # A tensor that was always 0 gets a scale, because 0 is not a valid one.
        return {name: (limit or 1.0) / QUANTISED_MAX for name, limit in limits.items()}


def scales_of(
    names: Sequence[str], activations: Activations, images: Iterable[Pixels], method: Method
) -> dict[str, float]:
    """The scales that `Ranges` gives after all `images`."""
    ranges = Ranges(names, activations)
    ranges.add(images)
    return ranges.scales(method)


def channel_means(
    names: Sequence[str], activations: Activations, images: Iterable[Pixels]
) -> dict[str, Floats]:
    """Mean of every channel over positions and images: by tensor, (channels,).

    Args:
        names: of tensors (B, channels, ...).
        activations: runs one image.
        images: each (H, W, 3) uint8.
    """
    totals = [np.zeros(1)] * len(names)
    seen = 0
    for image in images:
        seen += 1
        for index, values in enumerate(activations(image)):
            others = tuple(axis for axis in range(values.ndim) if axis != 1)
            totals[index] = totals[index] + values.mean(axis=others, dtype=np.float64)
    means = ((total / max(seen, 1)).astype(np.float32) for total in totals)
    return dict(zip(names, means, strict=True))
