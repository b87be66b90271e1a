"""What is exported: a `.keras` network with or without decoding layers, or a float `.onnx` file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.photos import images_in, packaged_images

from .settings import DataType

if TYPE_CHECKING:
    from bodypose_tools.networks.decoding import DecodeSettings


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A model file, and how it is read.

    network_hw: input size; None: as it was trained.
    decode: settings of the decoding layers to append; None: none are appended.
    samples: makes images (B, H, W, 3) uint8 of the size given, on which graphs are compared.
    """

    model: Path
    network_hw: tuple[int, int] | None
    decode: DecodeSettings | None
    samples: Callable[[tuple[int, int]], NDArray[np.uint8]]

    @classmethod
    def open(
        cls,
        model: Path,
        network_hw: tuple[int, int] | None,
        max_peaks: int | None,
        sample_images: Path | None,
    ) -> ExportSource:
        """A source as the command line names it.

        Args:
            model: `.keras` or `.onnx` file; an `.onnx` file has its decoding layers already.
            network_hw: input size; None: as it was trained.
            max_peaks: of the decoding layers; None: without these layers.
            sample_images: folder of images; None: the photo of a package.
        """
        decode = None
        if max_peaks is not None and model.suffix != ".onnx":
            from bodypose_tools.networks.decoding import DecodeSettings

            decode = DecodeSettings(max_peaks=max_peaks)
        samples = partial(images_in, sample_images) if sample_images else packaged_images
        return cls(model, network_hw, decode, samples)

    @property
    def has_decoding_layers(self) -> bool:
        """Whether the exported graph finds peaks and limb scores; an `.onnx` source has to."""
        return self.decode is not None or self.model.suffix == ".onnx"

    def default_output(self, data_type: DataType) -> Path:
        """`MODEL.onnx`, or `MODEL.int8.onnx`: a float file is never overwritten by default."""
        suffix = ".onnx" if data_type is DataType.FP32 else f".{data_type}.onnx"
        return self.model.with_suffix(suffix)
