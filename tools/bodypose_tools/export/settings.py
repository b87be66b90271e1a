"""What a person may choose of an export."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bodypose_tools.quantisation.settings import Calibration


class DataType(StrEnum):
    """Arithmetic of an exported graph."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Int8Settings:
    """How a graph becomes INT8."""

    calibration: Calibration
    float_layers: tuple[str, ...] = ()  # nodes that stay in float from the start
    unsigned: bool = False  # levels 0..255 for activations that are never negative: CPUs only
