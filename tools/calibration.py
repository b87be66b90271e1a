"""Owns calibration: how far the values of every activation reach, as one scale per tensor.

Images go through the serving preprocessing. A network runs one image at a time with its
activations as outputs, and each activation goes into a histogram of fixed size at once, so memory
depends on neither the number of images nor their batches. The images' pixels can be kept in a
`cal_data_file` (HDF5), the scales in a `cal_cache_file` (TensorRT's text format).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import ImageError, PoseError
from pose_runtime.images import network_pixels
from pose_runtime.spec import ImageLimits

from .artifacts import Artifact, atomic_path
from .sample_images import IMAGE_SUFFIXES

QUANTISED_MAX = 127  # symmetric INT8: -127..127
NUM_BINS = 4096
_LEVELS = QUANTISED_MAX + 1  # of an absolute value
_PERCENTILE = 99.99
_DATASET = "pixels"

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class CalibrationError(PoseError):
    """Too few images, or a calibration file that does not belong to what is calibrated."""


class Method(StrEnum):
    """How the largest kept absolute value is chosen from a histogram."""

    ENTROPY = "entropy"  # least Kullback-Leibler divergence; clips rare values
    PERCENTILE = "percentile"  # 99.99 % of all values
    MAX = "max"  # every value


# ------------------------------------------------------------------------------------- images


def images_of(folder: Path, count: int, network_hw: tuple[int, int]) -> Iterator[Pixels]:
    """The first `count` images of a folder, by name, as the server would see them: (H, W, 3).

    Raises:
        CalibrationError: fewer images, or one that cannot be decoded.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) < count:
        raise CalibrationError(
            f"{folder}: expected batches x batch_size = {count} images, got {len(paths)}; lower"
            f" --batches or --batch_size, or run `tools sample-calibration-images -n {count}`"
        )
    for path in paths[:count]:
        try:
            yield network_pixels(path.read_bytes(), network_hw, ImageLimits())[0]
        except ImageError as error:
            raise CalibrationError(f"{path}: {error}") from error


def write_data_file(path: Path, images: Iterable[Pixels], network_hw: tuple[int, int]) -> None:
    """Keep calibration pixels as HDF5: data set `pixels` (N, H, W, 3) uint8, image by image."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        stored = file.create_dataset(
            _DATASET,
            shape=(0, *network_hw, 3),
            maxshape=(None, *network_hw, 3),
            chunks=(1, *network_hw, 3),
            dtype=np.uint8,
            compression="gzip",
            compression_opts=1,
            track_times=False,
        )
        for row, image in enumerate(images):
            stored.resize(row + 1, axis=0)
            stored[row] = image


def images_in_data_file(path: Path, count: int, network_hw: tuple[int, int]) -> Iterator[Pixels]:
    """The first `count` images of a `cal_data_file`.

    Raises:
        CalibrationError: not such a file, of another input size, or with fewer images.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CalibrationError(f"{path}: expected an HDF5 cal_data_file, got {error}") from error
    with file:
        stored = file.get(_DATASET)
        shape = None if stored is None else stored.shape
        if shape is None or shape[1:] != (*network_hw, 3):
            height, width = network_hw
            raise CalibrationError(
                f"{path}: expected pixels (N, {height}, {width}, 3), got {shape}; delete it, and"
                " give --cal_image_dir to make it again"
            )
        if shape[0] < count:
            raise CalibrationError(
                f"{path}: expected batches x batch_size = {count} images, got {shape[0]}; delete"
                " it and give --cal_image_dir to make it again, or lower --batches"
            )
        for row in range(count):
            yield stored[row]


# --------------------------------------------------------------------------------- histograms


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
        """The absolute value that becomes 127; larger ones are clipped to it."""
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
    """How many of the bins to keep so that 128 levels say most about the whole distribution.

    Zeros are left out: they are represented exactly under every scale, and half of the values
    after a rectifier are zeros.

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
    """KL divergence of the kept bins, outliers in the last, from their 128-level version."""
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


def scales_of(
    names: Sequence[str], activations: Activations, images: Iterable[Pixels], method: Method
) -> dict[str, float]:
    """One scale per tensor, from every image's activations; memory holds one image's.

    Raises:
        CalibrationError: an activation is not finite, or no image came.
    """
    histograms = [Histogram() for _ in names]
    seen = 0
    for image in images:
        seen += 1
        for name, histogram, values in zip(names, histograms, activations(image), strict=True):
            try:
                histogram.add(values)
            except CalibrationError as error:
                raise CalibrationError(f"{name}: {error}") from error
    if not seen:
        raise CalibrationError("expected calibration images, got none")
    limits = (histogram.limit(method) for histogram in histograms)
    # A tensor that was always 0 keeps a scale, because 0 is none.
    return {name: (limit or 1.0) / QUANTISED_MAX for name, limit in zip(names, limits, strict=True)}


def channel_means(
    names: Sequence[str], activations: Activations, images: Iterable[Pixels]
) -> dict[str, Floats]:
    """Mean of every channel of (B, channels, ...) over positions and images: by tensor."""
    totals = [np.zeros(1)] * len(names)
    seen = 0
    for image in images:
        seen += 1
        for index, values in enumerate(activations(image)):
            others = tuple(axis for axis in range(values.ndim) if axis != 1)
            totals[index] = totals[index] + values.mean(axis=others, dtype=np.float64)
    means = ((total / max(seen, 1)).astype(np.float32) for total in totals)
    return dict(zip(names, means, strict=True))


# -------------------------------------------------------------------------------------- cache

# `trtexec --calib` reads the cache with this calibrator and ignores a cache of another one.
_HEADER = "TRT-101600-EntropyCalibration2"


def write_cache(
    path: Path,
    scales: dict[str, float],
    method: Method,
    *parents: Artifact,
    images: int,
    network_hw: tuple[int, int],
    graph: str,
) -> Artifact:
    """Scales as TensorRT <= 10 reads them, and a record that says what they belong to.

    A line is `tensor: hex`, the hex digits of a big-endian float32. `graph` is the sha256 of the
    graph that was calibrated: the parent's, equalised.
    """
    lines = [_HEADER, *(f"{n}: {struct.pack('>f', s).hex()}" for n, s in scales.items())]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    settings = {"method": str(method), "images": images, "network_hw": list(network_hw)}
    return Artifact.record(path, "export", *parents, settings={**settings, "graph": graph})


def read_cache(
    path: Path, names: Sequence[str], model: Artifact, network_hw: tuple[int, int], graph: str
) -> dict[str, float]:
    """The scales of `names`, from a file of `write_cache` or of TensorRT.

    Raises:
        CalibrationError: not such a file, a tensor is missing, or it was made for another model.
        StaleArtifactError: the file changed after `tools export` wrote it.
    """
    artifact = Artifact.open(path)
    again = "delete it to calibrate again"
    if artifact.parents and model.sha256 not in artifact.parents:
        raise CalibrationError(
            f"{path}: expected scales of {model.path.name}, got another's; {again}"
        )
    made_for = artifact.settings.get("network_hw", list(network_hw))
    if made_for != list(network_hw):
        raise CalibrationError(f"{path}: expected input size {network_hw}, got {made_for}; {again}")
    if artifact.parents and artifact.settings.get("graph") != graph:
        raise CalibrationError(
            f"{path}: expected scales of the equalised graph {graph[:12]}, got those of"
            f" {str(artifact.settings.get('graph'))[:12]} (other calibration images?); {again}"
        )
    header, *lines = path.read_text().splitlines() or [""]
    if not header.startswith("TRT-"):
        raise CalibrationError(
            f"{path}: expected a TensorRT calibration cache, got {header[:40]!r}"
        )
    scales = {}
    for number, line in enumerate(filter(None, lines), start=2):
        name, _, digits = line.rpartition(": ")
        try:
            (scales[name],) = struct.unpack(">f", bytes.fromhex(digits))
        except (ValueError, struct.error) as error:
            raise CalibrationError(
                f"{path}:{number}: expected `tensor: hex`, got {line!r}"
            ) from error
    if missing := [name for name in names if name not in scales]:
        raise CalibrationError(
            f"{path}: expected a scale of {missing[0]} (and {len(missing) - 1} more), got none;"
            f" {again}"
        )
    return {name: scales[name] for name in names}
