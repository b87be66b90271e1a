"""NVIDIA's JPEG decoder in hardware, through its C library: encoded bytes to planes on the card.

Source: nvjpeg.h of CUDA 13.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from .card_jpeg import CardJpeg
from .errors import PoseError
from .extras import install_line

_HARDWARE: Final = 3  # nvjpegBackend_t
_YUV: Final = 1  # nvjpegOutputFormat_t: the planes as stored
_COMPONENTS: Final = 4
_OK: Final = 0
_SAMPLINGS: Final = {0: (1, 1), 1: (1, 2), 2: (2, 2), 6: (0, 0)}  # nvjpegChromaSubsampling_t


class JpegHardwareError(PoseError):
    """The card's JPEG decoder cannot be used; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A place on the card for one component: address, and bytes from row to row."""

    address: int
    pitch: int


class _Image(ctypes.Structure):
    _fields_ = (
        ("channel", ctypes.c_void_p * _COMPONENTS),
        ("pitch", ctypes.c_size_t * _COMPONENTS),
    )


class HardwareDecoder:
    """The decoder of the current card."""

    def __init__(self, cuda: str) -> None:
        """Open the library and the decoder.

        Args:
            cuda: PyTorch's release of CUDA, such as "13.0".

        Raises:
            JpegHardwareError: there is no library, or the card has no such decoder.
        """
        self._library = library = _library(cuda.partition(".")[0])
        self._handle, self._state = ctypes.c_void_p(), ctypes.c_void_p()
        status = library.nvjpegCreateEx(_HARDWARE, None, None, 0, ctypes.byref(self._handle))
        status = status or library.nvjpegJpegStateCreate(self._handle, ctypes.byref(self._state))
        if status != _OK:
            raise JpegHardwareError(
                "expected a GPU with a JPEG decoder in hardware (A100, H100, H200 or newer), got"
                f" status {status} of nvJPEG; run `tools build-repo` with --preprocess cpu"
            )

    def decode(
        self, jpegs: Sequence[CardJpeg], places: Sequence[Sequence[Plane]], stream: Any
    ) -> list[bool]:
        """Decode a batch into its places, on a CUDA stream; whether each image was taken.

        nvJPEG works on when it has returned. Where all images are taken, the bytes must stay, and
        the next call must not come, until the stream has been waited for: else sound images beside
        damaged ones are spoilt (seen on an H200). An image that is not taken may have written to
        its places.

        Args:
            jpegs: as `card_jpeg.for_card` makes them.
            places: of Y, or of Y, Cb and Cr of each image.
            stream: PyTorch's, of CUDA.
        """
        taken = [self._is_as_told(jpeg) for jpeg in jpegs]
        chosen = [index for index, is_taken in enumerate(taken) if is_taken]
        if chosen and not self._decode(jpegs, places, chosen, stream.cuda_stream):
            for index in chosen:
                stream.synchronize()
                taken[index] = self._decode(jpegs, places, [index], stream.cuda_stream)
        if not all(taken):
            stream.synchronize()  # who called may give up, and come with the next batch
        return taken

    def _is_as_told(self, jpeg: CardJpeg) -> bool:
        """Whether nvJPEG reads the size out of the bytes that the places were made for."""
        components, sampling = ctypes.c_int(), ctypes.c_int()
        widths, heights = (ctypes.c_int * _COMPONENTS)(), (ctypes.c_int * _COMPONENTS)()
        status = self._library.nvjpegGetImageInfo(
            self._handle,
            ctypes.c_void_p(_address(jpeg)),
            ctypes.c_size_t(len(jpeg.data)),
            ctypes.byref(components),
            ctypes.byref(sampling),
            widths,
            heights,
        )
        return (
            status == _OK
            and (heights[0], widths[0]) == jpeg.hw
            and components.value == (3 if any(jpeg.sampling) else 1)
            and _SAMPLINGS.get(sampling.value) == jpeg.sampling
        )

    def _decode(
        self,
        jpegs: Sequence[CardJpeg],
        places: Sequence[Sequence[Plane]],
        chosen: Sequence[int],
        stream: int,
    ) -> bool:
        count = len(chosen)
        data = (ctypes.c_void_p * count)(*(_address(jpegs[index]) for index in chosen))
        lengths = (ctypes.c_size_t * count)(*(len(jpegs[index].data) for index in chosen))
        images = (_Image * count)()
        for image, index in zip(images, chosen, strict=True):
            for channel, plane in enumerate(places[index]):
                image.channel[channel] = plane.address
                image.pitch[channel] = plane.pitch
        library, handle, state = self._library, self._handle, self._state
        status = library.nvjpegDecodeBatchedInitialize(handle, state, count, 1, _YUV)
        status = status or library.nvjpegDecodeBatched(
            handle, state, data, lengths, images, ctypes.c_void_p(stream)
        )
        return bool(status == _OK)


def _address(jpeg: CardJpeg) -> int:
    return int(np.frombuffer(jpeg.data, np.uint8).ctypes.data)


def _library(release: str) -> Any:
    """The library of the wheel `nvidia-nvjpeg`, or of a CUDA installation."""
    name = f"libnvjpeg.so.{release}"
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in Path(folder).glob(f"*/lib/{name}")]
    for file in (*map(str, files), name):
        try:
            return ctypes.CDLL(file)
        except OSError:
            continue
    raise JpegHardwareError(
        f"expected NVIDIA's JPEG library ({name}), got none; run {install_line('embedded-cuda')}"
    )
