"""Picture files: their places, and pixels encoded as JPEG, PNG or WebP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import PoseError

from .output_file import write_file

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_JPEG_QUALITY = 92


class OutputPathError(PoseError):
    """Pictures cannot be written to the place that was asked for."""


def picture_paths(images: Sequence[Path], out: Path) -> list[Path]:
    """Where each image's picture goes: `out` itself for a single image, else files in folder `out`.

    A picture keeps its image's name; a second image of the same name gets `-2`, and so on.

    Raises:
        OutputPathError: several images for one file, or a picture would replace its image.
    """
    if out.suffix.lower() in SUFFIXES and not out.is_dir():
        if len(images) > 1:
            raise OutputPathError(f"expected a folder for {len(images)} images, got file {out}")
        paths = [out]
    else:
        paths = _names_in(out, images)
    inputs = {image.resolve() for image in images}
    for path in paths:
        if path.resolve() in inputs:
            raise OutputPathError(f"expected another place than the image itself, got {path}")
    return paths


def _names_in(folder: Path, images: Sequence[Path]) -> list[Path]:
    paths: list[Path] = []
    for image in images:
        suffix = image.suffix if image.suffix.lower() in SUFFIXES else ".jpg"
        path, count = folder / f"{image.stem}{suffix}", 1
        while path in paths:
            count += 1
            path = folder / f"{image.stem}-{count}{suffix}"
        paths.append(path)
    return paths


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB (height, width, 3) in the format of the file's suffix.

    Raises:
        FileError: it cannot be written.
    """
    import cv2

    options = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
        ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    }
    suffix = path.suffix.lower()
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(suffix, bgr, options.get(suffix, []))
    write_file(path, encoded.tobytes())
