"""The images that are sent: a folder's, or generated ones, in one size or in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bodypose_client.files.image_sources import image_files

from .errors import PlanError

MAX_IMAGES = 64
# For `mixed`: width of the longer side in pixels, and how many of 10 requests have it.
SIZES = {"small": (320, 2), "medium": (640, 6), "large": (1920, 2)}
_GENERATED = 8
_QUALITY = 90


@dataclass(frozen=True, slots=True)
class LoadImage:
    """An encoded image in a file, and the group that its latency is reported in."""

    name: str
    path: Path
    weight: float = 1.0
    size: str = ""


def load_images(folder: Path | None, work: Path, seed: int) -> list[LoadImage]:
    """Up to `MAX_IMAGES` images of `folder`, drawn by `seed`; without a folder, generated ones.

    Args:
        folder: where to look, its folders too.
        work: where generated images are written.
        seed: of the draw and of what is generated.
    """
    random = np.random.default_rng(seed)
    if folder is None:
        return [
            LoadImage(f"generated-{number}.jpg", _write(work, number, _draw(random, 480, 640)))
            for number in range(_GENERATED)
        ]
    found = image_files([str(folder)])
    if len(found) > MAX_IMAGES:
        found = [found[i] for i in sorted(random.choice(len(found), MAX_IMAGES, replace=False))]
    return [LoadImage(image.name, image.path) for image in found]


def in_several_sizes(images: Sequence[LoadImage], work: Path) -> list[LoadImage]:
    """Each image in every one of `SIZES`, encoded again.

    Raises:
        PlanError: a file is not an image.
    """
    resized: list[LoadImage] = []
    for image in images:
        pixels = cv2.imread(str(image.path))
        if pixels is None:
            raise PlanError(f"{image.path}: expected an image, got something else")
        for size, (longer, weight) in SIZES.items():
            scale = longer / max(pixels.shape[:2])
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            path = _write(
                work,
                len(resized),
                cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=method),
                f"{size}-",
            )
            resized.append(LoadImage(f"{size}/{image.name}", path, weight, size))
    return resized


def _write(work: Path, number: int, bgr: NDArray[np.uint8], prefix: str = "generated-") -> Path:
    path = work / f"{prefix}{number}.jpg"
    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
        raise PlanError(f"{path}: expected a place to write to, got none")
    return path


def _draw(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Noise on several scales: as heavy to decode as a photo, and nobody in it."""
    pixels = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = random.uniform(0, 255, (cells * 3 // 4, cells, 3)).astype(np.float32)
        pixels += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / 3
    pixels += random.normal(0, 6, pixels.shape).astype(np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)
