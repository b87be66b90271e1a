"""Owns what all subjects of the benchmark are measured with: model, photo, threads, effort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose_runtime.spec import PipelineSpec
from tools.onnx_contract import spec_in_onnx

Pixels = NDArray[np.uint8]


class Effort(StrEnum):
    """How long to measure: minutes, or a quarter of an hour."""

    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Setting:
    """One run of the benchmark.

    model: ONNX file from `tools export`.
    threads: of every runtime; the server takes all cores.
    images: a folder of the user's own photos for preprocessing; None: the packaged one only.
    say: gets a line before each subject.
    """

    model: Path
    effort: Effort
    threads: int
    images: Path | None
    say: Callable[[str], None]

    @property
    def spec(self) -> PipelineSpec:
        return spec_in_onnx(self.model)

    def pick(self, quick: int, full: int) -> int:
        """How many rounds or seconds, by the effort."""
        return quick if self.effort is Effort.QUICK else full


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
