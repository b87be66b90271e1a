"""A JPEG on its way to a GPU's decoder: which ones that takes, and how they travel there."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError
from .image_headers import SAMPLINGS, EncodedImage, jpeg_frame
from .images import decoded_hw
from .letterbox import Letterbox
from .spec import ImageLimits

# Smaller ones are quick on a CPU, and libjpeg upsamples very narrow ones in another way.
_LEAST_SIDE = 32
_ALIGNED = 64  # bytes from row to row are a multiple of it
# Version of this layout, kind, orientation, samples of Y for one of Cb (rows, columns), height,
# width.
_HEAD = struct.Struct("<BBBBBHH")
_VERSION, _PIXELS, _JPEG = 1, 0, 1

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class CardJpeg:
    """A plain JPEG, see `image_headers.jpeg_frame`.

    data: its bytes.
    hw: height and width, as stored.
    orientation: EXIF's, 1..8.
    sampling: samples of Y for one of Cb and Cr, by rows and columns; (0, 0) for a grey picture.
    """

    data: Buffer
    hw: tuple[int, int]
    orientation: int
    sampling: tuple[int, int]

    @property
    def upright_hw(self) -> tuple[int, int]:
        return self.hw[::-1] if self.orientation >= 5 else self.hw

    @property
    def planes_hw(self) -> list[tuple[int, int]]:
        """Height and width of Y, and of Cb and Cr where there are colours."""
        if self.sampling == (0, 0):
            return [self.hw]
        (height, width), (rows, columns) = self.hw, self.sampling
        return [self.hw, *2 * [(-(-height // rows), -(-width // columns))]]

    def pack(self) -> bytes:
        """The bytes that travel to the network's step."""
        return _HEAD.pack(_VERSION, _JPEG, self.orientation, *self.sampling, *self.hw) + self.data


def for_card(image: EncodedImage, network_hw: tuple[int, int]) -> CardJpeg | None:
    """The JPEG for the card's decoder; None for an image that the CPU decodes.

    Those are other formats, JPEGs that hardware does not take, and pictures so large that libjpeg
    decodes them at half their size or less: a card's decoder has no such scales, and averages of
    whole pictures differ from them by up to 4 of 255.
    """
    header = image.header
    if header.image_format != "JPEG" or not image.is_quick or min(header.hw) < _LEAST_SIDE:
        return None
    frame = jpeg_frame(image.data)
    if frame is None or frame.hw != header.hw:
        return None
    placed_hw = Letterbox.fit(header.upright_hw, network_hw).placed_hw
    if decoded_hw(image.data, header, placed_hw) != header.hw:
        return None
    jpeg = CardJpeg(image.data, header.hw, header.orientation, frame.sampling)
    # Very long pictures, which are averaged, would not fit.
    fits = sum(rows * pitch(columns) for rows, columns in jpeg.planes_hw) <= place_bytes(network_hw)
    return jpeg if fits and 2 * placed_hw[0] >= header.upright_hw[0] else None


def place_bytes(network_hw: tuple[int, int]) -> int:
    """Bytes of the planes of one image: nearly all that are decoded whole have as many."""
    return 3 * pitch(2 * network_hw[0]) * pitch(2 * network_hw[1])


def pitch(columns: int) -> int:
    """Bytes from row to row of a plane."""
    return -(-columns // _ALIGNED) * _ALIGNED


def pack_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """The network's pixels of an image that a CPU has decoded, as they travel."""
    return _HEAD.pack(_VERSION, _PIXELS, 1, 0, 0, *pixels.shape[:2]) + pixels.tobytes()


def unpack(
    packed: bytes, network_hw: tuple[int, int], limits: ImageLimits
) -> CardJpeg | NDArray[np.uint8]:
    """What `CardJpeg.pack` or `pack_pixels` made: a JPEG, or the network's pixels (H, W, 3).

    Raises:
        ContractError: the bytes are not from preprocessing.
    """
    if len(packed) > _HEAD.size:
        version, kind, orientation, rows, columns, *hw = _HEAD.unpack_from(packed)
        content = memoryview(packed)[_HEAD.size :]
        is_ours = version == _VERSION and 1 <= orientation <= 8
        if is_ours and kind == _PIXELS and tuple(hw) == network_hw:
            if len(content) == 3 * hw[0] * hw[1]:
                return np.frombuffer(content, np.uint8).reshape(*network_hw, 3)
        elif is_ours and kind == _JPEG and min(hw) >= _LEAST_SIDE and len(content):
            jpeg = CardJpeg(content, (hw[0], hw[1]), orientation, (rows, columns))
            needed = sum(each[0] * pitch(each[1]) for each in jpeg.planes_hw)
            within = needed <= place_bytes(network_hw) and len(content) <= limits.max_bytes
            if jpeg.sampling in SAMPLINGS and within:
                return jpeg
    raise ContractError(
        "encoded", "what preprocessing for a GPU makes", f"{len(packed)} bytes of something else"
    )
