"""The network's input on a GPU, from what preprocessing sends: planes of JPEGs, or pixels.

JPEGs are decoded by the card itself. What it refuses is decoded by a CPU, in the same batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .card_jpeg import CardJpeg, pitch, place_bytes
from .errors import BadImages, ImageError
from .letterbox import Letterbox
from .letterbox_in_torch import COLOUR, GREY, PIXELS, Fact
from .nvjpeg import Plane
from .spec import PipelineSpec

# JPEGs and their planes' places -> whether each was decoded.
Decode = Callable[[Sequence[CardJpeg], Sequence[Sequence[Plane]]], Sequence[bool]]
# A JPEG as it came -> the network's pixels (H, W, 3).
DecodeOnCpu = Callable[[bytes], NDArray[np.uint8]]


class CardPixels:
    """Memory on the card for the planes of one batch.

    planes: (N,) uint8.
    facts: (B, len(Fact)) int32, what `letterbox_in_torch.letterbox` reads with them.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        batch: int,
        device: str,
        decode: Decode,
        decode_on_cpu: DecodeOnCpu,
    ) -> None:
        import torch

        self._spec, self._decode, self._decode_on_cpu = spec, decode, decode_on_cpu
        self._place_bytes = place_bytes(spec.network_hw)
        self.planes = torch.zeros(batch * self._place_bytes, dtype=torch.uint8, device=device)
        self._address = self.planes.data_ptr()
        self.facts = torch.zeros((batch, len(Fact)), dtype=torch.int32, device=device)
        self._facts = torch.zeros((batch, len(Fact)), dtype=torch.int32)
        self._pixels = torch.zeros((batch, 3 * math.prod(spec.network_hw)), dtype=torch.uint8)
        if self.planes.is_cuda:  # memory that the card reads by itself
            self._facts, self._pixels = self._facts.pin_memory(), self._pixels.pin_memory()

    def load(self, images: Sequence[CardJpeg | NDArray[np.uint8]]) -> None:
        """Decode a batch into `planes` and describe it in `facts`, on the current stream.

        Raises:
            BadImages: no decoder takes some of them.
        """
        facts = self._facts.numpy()
        facts[:] = 0
        jpegs = {at: image for at, image in enumerate(images) if isinstance(image, CardJpeg)}
        planes = {at: self._placed(at, jpeg) for at, jpeg in jpegs.items()}
        addresses = [
            [Plane(self._address + start, step) for start, step in each] for each in planes.values()
        ]
        taken = self._decode(list(jpegs.values()), addresses) if jpegs else ()
        pixels = {at: each for at, each in enumerate(images) if not isinstance(each, CardJpeg)}
        errors: dict[int, ImageError] = {}
        for (at, jpeg), is_taken in zip(jpegs.items(), taken, strict=True):
            if is_taken:
                facts[at] = self._described(jpeg, planes[at])
                continue
            try:
                pixels[at] = self._decode_on_cpu(bytes(jpeg.data))
            except ImageError as error:
                errors[at] = error
        if errors:
            raise BadImages(errors)
        for at, array in pixels.items():
            start = at * self._place_bytes
            facts[at, Fact.KIND], facts[at, Fact.Y_AT] = PIXELS, start
            self._pixels.numpy()[at] = array.reshape(-1)
            self.planes[start : start + array.size].copy_(self._pixels[at], non_blocking=True)
        self.facts.copy_(self._facts, non_blocking=True)

    def _placed(self, at: int, jpeg: CardJpeg) -> list[tuple[int, int]]:
        """Start and pitch of a JPEG's planes in this image's place, one behind the other."""
        start, planes = at * self._place_bytes, []
        for rows, columns in jpeg.planes_hw:
            planes.append((start, pitch(columns)))
            start += rows * pitch(columns)
        return planes

    def _described(self, jpeg: CardJpeg, planes: Sequence[tuple[int, int]]) -> list[int]:
        """The facts of one image, in the order of `Fact`."""
        letterbox = Letterbox.fit(jpeg.upright_hw, self._spec.network_hw)
        (y_at, y_pitch), (cb_at, c_pitch), (cr_at, _) = (*planes, (0, 0), (0, 0))[:3]
        return [
            COLOUR if len(planes) > 1 else GREY,
            *(y_at, cb_at, cr_at, y_pitch, c_pitch),
            *(*jpeg.hw, *jpeg.planes_hw[-1]),
            *(int(times == 2) for times in jpeg.sampling),
            jpeg.orientation,
            *(*letterbox.placed_hw, letterbox.offset_xy[1], letterbox.offset_xy[0]),
        ]
