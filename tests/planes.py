"""Stored planes of JPEGs, as a card's decoder gives them, from Pillow's libjpeg-turbo."""

from __future__ import annotations

import ctypes
import io

import numpy as np
from PIL import Image

from pose_runtime.card_jpeg import CardJpeg


def planes_of(jpeg: CardJpeg) -> list[np.ndarray]:
    """Y, or Y, Cb and Cr, each as large as it is stored; of 4:4:4, 4:2:0 and grey JPEGs."""
    height, width = jpeg.hw
    made = [decoded(jpeg, "L", (width, height))]
    if len(jpeg.planes_hw) > 1:
        # At half the size, libjpeg decodes Cb and Cr of 4:2:0 whole.
        colours = decoded(jpeg, "YCbCr", jpeg.planes_hw[1][::-1])
        made += [colours[..., 1], colours[..., 2]]
    return made


def decoded(jpeg: CardJpeg, mode: str, size: tuple[int, int]) -> np.ndarray:
    image = Image.open(io.BytesIO(bytes(jpeg.data)))
    image.draft(mode, (size[0] - 1, size[1] - 1) if size != image.size else size)
    assert (image.mode, image.size) == (mode, size)
    return np.asarray(image)


def decode(jpegs, places) -> list[bool]:
    """As `nvjpeg.HardwareDecoder.decode`, into the memory of this machine."""
    for jpeg, planes in zip(jpegs, places, strict=True):
        for plane, made in zip(planes, planes_of(jpeg), strict=True):
            for row, samples in enumerate(made):
                ctypes.memmove(plane.address + row * plane.pitch, samples.tobytes(), len(samples))
    return [True] * len(jpegs)
