"""The measurement of preprocessing: ours against plain OpenCV, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import simplejpeg

from bodypose_tools.data.photos import IMAGE_SUFFIXES, photo_jpeg
from bodypose_tools.runtimes.clock import compared, take_turns
from pose_runtime.image_headers import image_size
from pose_runtime.images import network_pixels

from .conditions import Setting

SIZES = ((640, 480), (1920, 1080), (3840, 2160))
QUALITIES = (75, 90)
_MOST_IMAGES = 16


def measure(setting: Setting) -> dict[str, Any]:
    """Milliseconds of decode and letterbox, and of OpenCV, by image size and JPEG quality."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        cases = {
            f"{width}x{height} quality {quality}": [photo_jpeg(width, height, quality)]
            for width, height in SIZES
            for quality in QUALITIES
        }
        cases |= _own_photos(setting)
        return {name: _case(setting, photos) for name, photos in cases.items()}
    finally:
        cv2.setNumThreads(before)


def _case(setting: Setting, photos: list[bytes]) -> dict[str, Any]:
    """Milliseconds of one photo, as the mean over `photos`."""
    network_hw, limits = setting.spec.network_hw, setting.spec.limits
    works: dict[str, Callable[[bytes], object]] = {
        "opencv": partial(plain_opencv, hw=network_hw),
        "ours": partial(network_pixels, network_hw=network_hw, limits=limits),
        # The least work of any JPEG decoder: reading the entropy-coded data.
        "least": _entropy_decoding,
    }
    sides = {name: partial(_each, work, photos) for name, work in works.items()}
    seconds = take_turns(sides, rounds=setting.pick(15, 40), repeats=3)
    return {
        "bytes": int(np.mean([len(photo) for photo in photos])),
        "image_hw": image_size(photos[0]),
        **compared({name: spent / len(photos) for name, spent in seconds.items()}, "opencv"),
    }


def plain_opencv(photo: bytes, hw: tuple[int, int]) -> Any:
    """The usual preprocessing: decode the whole image, resize it, keep BGR."""
    image = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    return cv2.resize(image, hw[::-1])


def _entropy_decoding(photo: bytes) -> Any:
    return simplejpeg.decode_jpeg(photo, "GRAY", min_height=1, min_width=1, min_factor=8)


def _each(work: Callable[[bytes], object], photos: list[bytes]) -> None:
    for photo in photos:
        work(photo)


def _own_photos(setting: Setting) -> dict[str, list[bytes]]:
    """The first JPEGs of 640 x 480 in the user's folder."""
    if setting.images is None:
        return {}
    paths = sorted(p for p in setting.images.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    read = (path.read_bytes() for path in paths)
    photos = [photo for photo in read if image_size(photo) == (480, 640)][:_MOST_IMAGES]
    return {"640x480 own images": photos} if photos else {}
