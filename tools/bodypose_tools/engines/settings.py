"""What a person may choose of a TensorRT engine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pose_runtime.errors import PoseError
from pose_runtime.spec import PipelineSpec


class EngineError(PoseError):
    """An engine cannot be built or run here, or is not what the graph asks for."""


class EngineRuntime(StrEnum):
    """Which of NVIDIA's two runtimes an engine is for."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What is fixed when an engine is built."""

    runtime: EngineRuntime = EngineRuntime.TENSORRT
    max_batch_size: int = 8
    opt_batch_size: int | None = None  # None: `max_batch_size`
    workspace_mib: int = 2048
    timing_cache: Path | None = None  # read when it exists, and written
    version_compatible: bool = False  # also runs on newer versions; may be slower
    hardware_compatible: bool = False  # also runs on other GPUs, Ampere or newer; may be slower

    def profile(self, spec: PipelineSpec) -> dict[str, tuple[int, ...]]:
        """Shapes of `pixels`: only the batch varies."""
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
