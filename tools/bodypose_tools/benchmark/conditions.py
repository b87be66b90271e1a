"""The conditions that all subjects of the benchmark share: model, photos, threads, effort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.graphs.contract import spec_in_onnx
from pose_runtime.spec import PipelineSpec

from .settings import Effort

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Setting:
    """The conditions of one run of the benchmark.

    model: ONNX file from `tools export`.
    threads: of every runtime; the server uses all cores.
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
        """The pipeline of the model."""
        return spec_in_onnx(self.model)

    def pick(self, quick: int, full: int) -> int:
        """Number of rounds or seconds, by the effort."""
        return quick if self.effort is Effort.QUICK else full
