"""What a person may choose of a TensorRT engine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pose_runtime.errors import EngineError

if TYPE_CHECKING:  # numpy
    from pose_runtime.spec import PipelineSpec


class EngineRuntime(StrEnum):
    """NVIDIA's runtime that an engine is for."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The properties of an engine that are fixed when it is built."""

    runtime: EngineRuntime = EngineRuntime.TENSORRT
    max_batch_size: int = 8
    opt_batch_size: int | None = None  # None: `max_batch_size`
    workspace_mib: int = 2048
    timing_cache: Path | None = None  # read when it exists, and written
    version_compatible: bool = False  # newer versions load it, too; may be slower
    hardware_compatible: bool = False  # other GPUs from Ampere on load it, too; may be slower

    def profile(self, spec: PipelineSpec) -> dict[str, tuple[int, ...]]:
        """Smallest, optimal and largest shape (B, H, W, 3) of `pixels`; only the batch varies.

        Raises:
            EngineError: `opt_batch_size` is larger than `max_batch_size`.
        """
        sizes = {
            "min": 1,
            "opt": self.opt_batch_size or self.max_batch_size,
            "max": self.max_batch_size,
        }
        if not 1 <= sizes["opt"] <= sizes["max"]:
            raise EngineError(
                f"expected 1 <= opt_batch_size <= max_batch_size, got {sizes['opt']} and"
                f" {sizes['max']}"
            )
        return {name: (size, *spec.pixels.dims) for name, size in sizes.items()}
