"""Images for comparisons and timing: a folder's, or scikit-image's photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodypose_client.image_bytes import read_image_file
from pose_runtime.errors import ImageError, PoseError
from pose_runtime.images import letterbox_pixels, network_pixels
from pose_runtime.spec import ImageLimits

MAX_IMAGES = 8
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class SampleImagesError(PoseError):
    """There are no sample images to compare on."""


def images_in(folder: Path, network_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The first images of a folder by name, letterboxed: (B, H, W, 3) with B <= `MAX_IMAGES`."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)[:MAX_IMAGES]
    if not paths:
        raise SampleImagesError(
            f"{folder}: expected images ({', '.join(sorted(IMAGE_SUFFIXES))}), got none"
        )
    placed = []
    for path in paths:
        try:
            placed.append(image_pixels(path, network_hw))
        except ImageError as error:
            raise SampleImagesError(f"{path}: {error}") from error
    return np.stack(placed)


def image_pixels(path: Path, network_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """An image file as a server preprocesses it: (H, W, 3).

    Raises:
        FileError, RequestRejected: it cannot be read, or is too large.
        ImageError: it does not decode.
    """
    return network_pixels(read_image_file(path), network_hw, ImageLimits())[0]


def packaged_images(network_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """scikit-image's photo of an astronaut (public domain, NASA): whole, cropped and mirrored."""
    from skimage import data

    photo = np.asarray(data.astronaut())
    crops = (photo, photo[:, ::-1], photo[:320, 80:400], photo[40:440, :300])
    return np.stack([letterbox_pixels(np.ascontiguousarray(c), network_hw)[0] for c in crops])


def photo_jpeg(width: int, height: int, quality: int = 90) -> bytes:
    """scikit-image's photo of an astronaut (public domain, NASA), tiled to 4:3 or 16:9, as JPEG."""
    import cv2
    import simplejpeg
    from skimage import data

    photo = np.asarray(data.astronaut())
    pair = np.concatenate([photo, photo[:, ::-1]], axis=1)
    rows = round(pair.shape[1] * height / width)
    scaled = cv2.resize(pair[:rows], (width, height), interpolation=cv2.INTER_CUBIC)
    return bytes(
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(scaled), quality=quality, colorsubsampling="420"
        )
    )
